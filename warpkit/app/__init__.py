"""The web page: it takes files, calls the tasks, and shows what they wrote.

`limits`, `workspace`, `queue`, `models` and `service` are plain Python; `page`, the tabs and
`server` put Gradio around them.
"""
