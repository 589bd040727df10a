"""Copies episodes of a recording with their pictures compressed over time, so that it is small to keep.

    python3 tests/gpu/data/pack.py IN.hdf5 OUT.hdf5 [--corrected N] [--others N]      needs h5py

--corrected: episodes in which a person took over; --others: episodes without. Each number is a limit; default
all. Episodes that ran out of time are left out.
"""

import argparse

import h5py
import numpy as np


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--corrected", type=int, default=10**9)
    parser.add_argument("--others", type=int, default=10**9)
    options = parser.parse_args()
    with h5py.File(options.source) as source, h5py.File(options.target, "w", libver="v108") as target:
        target.attrs.update(source.attrs)
        group = target.create_group("data")
        group.attrs.update(source["data"].attrs)
        left = {True: options.corrected, False: options.others}
        steps = kept = 0
        for name in sorted(source["data"], key=lambda name: int(name.removeprefix("demo_"))):
            episode = source["data"][name]
            corrected = bool((episode["action_source"][:] == 2).any())
            if left[corrected] == 0 or episode.attrs.get("outcome") == "timeout":
                continue
            left[corrected] -= 1
            out = group.create_group(f"demo_{kept}")
            kept += 1
            out.attrs.update(episode.attrs)
            steps += len(episode["actions"])

            def copy(path, item):
                if not isinstance(item, h5py.Dataset):
                    return
                data = item[()]
                how = {}
                if data.ndim == 4:  # pictures: what stands still costs nothing when frames lie side by side
                    how = dict(chunks=data.shape, compression="gzip", compression_opts=9)
                out.create_dataset(path, data=data, dtype=item.dtype, **how).attrs.update(item.attrs)

            episode.visititems(copy)
        group.attrs["total"] = np.int64(steps)
    print(f"{kept} episodes, {steps} steps")


if __name__ == "__main__":
    main()
