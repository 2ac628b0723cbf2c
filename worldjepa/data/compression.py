"""How frames are kept smaller without loss: each a chunk of its own, so that a window reads no other."""

from typing import Any

from ..errors import UserError


def filters(compression: str, column: str, row: tuple[int, ...]) -> dict[str, Any]:
    """What h5py's create_dataset is told of a column; only frames are compressed.

    Args:
        compression: "none"; "gzip", which every HDF5 library reads; "lzf", which h5py does; "blosc",
            Zstandard in Blosc, for which readers need the package hdf5plugin.
        column: its name.
        row: (H, W, 3) of a frame.

    Raises:
        UserError: the package that compresses is not installed.
    """
    if compression == "none" or column != "pixels":
        return {}
    chunks = {"chunks": (1, *row)}
    if compression != "blosc":
        return chunks | {"compression": compression}
    try:
        import hdf5plugin
    except ImportError:
        raise UserError(
            "store.compression=blosc: needs hdf5plugin, `pip install hdf5plugin`; gzip and lzf need nothing"
        ) from None
    return chunks | dict(hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=hdf5plugin.Blosc.NOSHUFFLE))
