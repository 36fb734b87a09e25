"""The table of what each part of a wheel takes."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tools import wheel_report

LOG = """# ninja log v7
0\t2000\t1\tCMakeFiles/core.dir/csrc/core/inputs.cc.o\tabc
0\t9000\t1\tCMakeFiles/core_avx2.dir/csrc/cpu/kernels.cc.o\tabc
0\t90000\t1\tCMakeFiles/cuda_rows_float.dir/csrc/cuda/rows/kernels.cu.o\tabc
0\t99000\t1\tCMakeFiles/ops.dir/csrc/tensorflow/ops.cc.o\tabc
500\t3500\t1\tCMakeFiles/ops.dir/csrc/tensorflow/ops.cc.o\tabc
0\t4000\t1\tlibcore.a\tabc
"""
SIZES = {
    "libnegative_cosine_core.so": 3_000_000,
    "_negative_cosine_ops.tf2.20.so": 20_000,
    "_negative_cosine_ops.tf2.21.so": 40_000,
    "_loader.py": 10_000,
}


def test_each_part_has_its_files_and_the_last_time_of_its_jobs(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, size in SIZES.items():
            archive.writestr(f"negative_cosine/{name}", bytes(size))
    targets = wheel_report.seconds(LOG)
    table = wheel_report.rows(zipfile.ZipFile(path), targets)
    assert [[*row.values()] for row in table] == [
        ["kernels for the CPU and CUDA", "3000", "3000", "101"],
        ["op, TensorFlow 2.20", "20", "20", "3"],
        ["op, TensorFlow 2.21", "40", "40", "3"],
        ["Python and the description", "10", "10", "0"],
        ["in all", "3070", "3070", "107"],
    ]
