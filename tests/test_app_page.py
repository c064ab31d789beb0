"""The page over HTTP: fifty requests at once, paths, hosts, limits, and what is left behind."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_videos import long_video
from PIL import Image

import warpkit

pytest.importorskip("gradio", reason="the page needs Gradio: pip install gradio")

import httpx
from app_server import Page
from gradio_client import Client
from gradio_client.exceptions import AppError

from warpkit.app.pictures import encode_labels

VISITORS, EACH = 5, 10


@pytest.fixture(scope="module")
def visit(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Client]:
    downloads = tmp_path_factory.mktemp("downloads")
    return lambda: Client(
        page.url, verbose=False, analytics_enabled=False, download_files=str(downloads)
    )


def send(page: Page, path: Path) -> str:
    """Upload a file as the browser does; where it landed."""
    with path.open("rb") as file:
        answer = httpx.post(
            f"{page.url}gradio_api/upload", files={"files": (path.name, file)}, timeout=60
        )
    answer.raise_for_status()
    return str(answer.json()[0])


def give(page: Page, client: Client, path: Path, to: str, *more: Any) -> dict[str, Any]:
    """Give a file to a canvas; what the canvas is told."""
    value = {"upload": send(page, path), "title": path.name}
    found: dict[str, Any] = client.predict(value, *more, api_name=f"/upload_{to}")[0]
    return found


def test_it_says_where_it_is_and_listens_on_this_machine_alone(page: Page) -> None:
    assert re.match(r"the page is at http://127\.0\.0\.1:\d+/ \(ready in [\d.]+ s", page.line)
    port = int(page.url.rsplit(":", 1)[1].strip("/"))
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in own - {"127.0.0.1"}:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, port)) != 0


def test_nothing_of_the_page_comes_from_elsewhere(page: Page) -> None:
    answer = httpx.get(page.url)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "connect-src 'self' data: blob:" in policy
    scripts = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", answer.text)
    assert [name for name in scripts if not name.startswith(page.url)] == []
    assert '"analytics_enabled":false' in answer.text.replace(" ", "")


def test_another_name_of_this_machine_is_refused(page: Page) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert httpx.get(page.url, headers={"host": host}).status_code == 400
    assert httpx.get(page.url, headers={"host": "localhost"}).status_code == 200
    from_elsewhere = httpx.post(
        f"{page.url}gradio_api/queue/join",
        json={"data": [], "fn_index": 0, "session_hash": "x"},
        headers={"origin": "https://evil.example"},
    )
    assert "access-control-allow-origin" not in from_elsewhere.headers


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self/environ",
        "{folder}/../../secret.txt",
        "{folder}/.warpkit-app",
        str(Path(warpkit.__file__)),
    ],
)
def test_files_outside_the_working_folder_are_not_served(page: Page, path: str) -> None:
    name = path.format(folder=page.folder)
    for spelled in (name, name.replace("/", "%2F"), name.replace("..", "%2e%2e")):
        answer = httpx.get(f"{page.url}gradio_api/file={spelled}")
        assert answer.status_code in (403, 404), (spelled, answer.status_code)


def test_paths_outside_are_no_uploads(page: Page, visit: Callable[[], Client]) -> None:
    client = visit()
    for path in ("/etc/passwd", f"{page.folder}/.warpkit-app", "../../etc/passwd"):
        value, *_ = client.predict({"upload": path, "title": "x"}, api_name="/upload_warp_source")
        assert value["wrong"] is True
        assert "refused" in value["message"]
    assert (page.folder / ".warpkit-app").exists()
    with pytest.raises(AppError, match="not in the list of choices"):
        client.predict("../../../etc", api_name="/set")


def test_rubbish_and_what_is_too_large_get_a_message(
    page: Page, visit: Callable[[], Client], files: Path, tmp_path: Path
) -> None:
    client = visit()
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    large = give(page, client, tmp_path / "large.png", "warp_source")
    assert large["wrong"] is True
    assert large["message"].startswith("large.png has too many pixels: this page takes images of")
    rubbish = give(page, client, files / "text.png", "warp_source")
    assert rubbish["message"].startswith("text.png: not an image that can be read")
    film = give(page, client, long_video(tmp_path / "film.mp4"), "video", 0)
    assert film["message"].startswith("film.mp4 is 2:00:")


def test_fifty_requests_at_once_mix_nothing(
    page: Page, visit: Callable[[], Client], files: Path, tmp_path: Path
) -> None:
    """Each visitor has a target of its own size, each request a mask of its own area or a point.

    Every fifth is a warp, which takes longest.
    """

    def visitor(number: int) -> list[tuple[Any, str, tuple[int, int]]]:
        client = visit()
        height, width = 40 + number, 60 + 2 * number
        path = tmp_path / f"target-{number}.png"
        image = warpkit.read_image(files / "frames/000.png")[:height, :width]
        warpkit.write_image(path, image)
        size = image.shape[:2]
        source = give(page, client, files / "frames/003.png", "warp_source")
        target = give(page, client, path, "warp_target")
        asked: list[tuple[Any, str, tuple[int, int]]] = []
        for i in range(EACH):
            if i % 5 == 0:
                area = 100 * number + 10 * i + 5
                mask = np.zeros(size, np.uint8)
                mask.flat[:area] = 1
                values = (
                    {"picture": source["picture"]},
                    {"picture": target["picture"], "labels": encode_labels(mask)},
                )
                job = client.submit(*values, "tiny", "paste", "nearest", api_name="/warp")
                asked.append((job, f"{area:,} pixels warped", size))
            else:
                values = (
                    {"picture": source["picture"], "points": [[8 * i, 5 * number]]},
                    {"picture": target["picture"]},
                )
                job = client.submit(*values, False, "tiny", api_name="/points")
                asked.append((job, f"<td>{8 * i}.0, {5 * number}.0</td>", size))
        return [(job.result(timeout=120), expected, size) for job, expected, size in asked]

    with ThreadPoolExecutor(VISITORS) as pool:
        results = [one for part in pool.map(visitor, range(1, VISITORS + 1)) for one in part]
    assert len(results) == VISITORS * EACH
    for found, expected, size in results:
        if len(found) != 5:
            line, (before, composite), _, archive, *_ = found
            assert expected in line
            assert warpkit.read_image(before).shape[:2] == size
            assert warpkit.read_image(composite).shape[:2] == size
            assert "value" in archive
        else:
            line, _, picture, table, archive = found
            picture = picture["value"]
            assert "1 point matched" in line
            assert expected in table
            assert warpkit.read_image(picture).size
            assert "value" in archive
    assert httpx.get(page.url).status_code == 200


def test_an_input_error_is_a_line_and_no_crash(page: Page, visit: Callable[[], Client]) -> None:
    client = visit()
    for value in (None, {}, {"picture": "../x"}, "text", [1, 2], {"picture": {"a": 1}}):
        line, *_ = client.predict(value, value, "tiny", "feather", "bilinear", api_name="/warp")
        assert "job-failed" in line
        assert "choose a source picture first" in line
    line, *_ = client.predict({}, {}, "tiny", "feather", "bilinear", api_name="/warp")
    assert "Traceback" not in line
