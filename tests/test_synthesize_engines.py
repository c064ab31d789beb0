"""How chunks are spread over Ray's actors; `test_synthesize_job.py` runs Ray itself."""

from __future__ import annotations

import json

from warpkit.synthesize import engines


def test_a_ray_actor_makes_what_it_is_given_in_order():
    class Maker:
        def chunks(self, numbers):
            for number in numbers:
                yield engines.MadeChunk(number, bytes([number, 0]), {"match": 0.5})

    rows = list(engines._Actor(Maker)({"chunks": [4, 5]}))
    assert [row["chunk"] for row in rows] == [4, 5]
    assert [row["data"] for row in rows] == [b"\x04\0", b"\x05\0"]
    assert json.loads(rows[0]["seconds"]) == {"match": 0.5}


def test_chunks_are_given_to_gpus_several_at_once():
    """So that what runs beside the model has something to run beside, and no actor goes without."""
    numbers = range(3, 103)
    for workers, on_gpu, largest in ((2, False, 1), (2, True, 8), (5, True, 5), (60, True, 1)):
        portions = engines._given_at_once(numbers, workers, on_gpu=on_gpu)
        assert [number for portion in portions for number in portion] == list(numbers)
        assert max(map(len, portions)) == largest
    assert engines._given_at_once([7], 4, on_gpu=True) == [[7]]
