"""Writers of a finished set, one file a format; each goes through the records once."""

from warpkit.synthesize.writers.coco import CocoKeypointWriter
from warpkit.synthesize.writers.layout import LayoutWriter, image_path, mask_path
from warpkit.synthesize.writers.parquet import ParquetWriter
from warpkit.synthesize.writers.shards import ShardWriter
from warpkit.synthesize.writers.target import Place, SetWriter

__all__ = [
    "CocoKeypointWriter",
    "LayoutWriter",
    "ParquetWriter",
    "Place",
    "SetWriter",
    "ShardWriter",
    "image_path",
    "mask_path",
]
