"""Small photos in folders and tar files, and the rows that reading them gives."""

import io
import tarfile

import numpy as np
from PIL import Image

from sor_ppa.scale.reading import read_piece


def encoded(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_photos(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"p{i}.png").write_bytes(encoded(i))
    return folder


def rows_of(piece, folder="/"):
    fields = {"files": piece.files, "start": piece.start, "stop": piece.stop, "shard": 3}
    return list(read_piece(fields, str(folder)))


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
