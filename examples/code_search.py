"""Finds the code that a docstring describes: `make demo`.

The data is what the installed TensorFlow, Keras, NumPy and standard library say of
themselves: the first line of a docstring, and the source of its function or class without
the docstring. It is split by file, so that no file is in both parts, and cached.

    python -m examples.code_search
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import json
import re
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Array = NDArray[Any]

LIBRARIES = ("tensorflow", "keras", "numpy")
BUCKETS = 2**15  # hashed subwords; 0 is padding
QUERY_TOKENS, CODE_TOKENS = 24, 96
SHORTEST_LINE, SHORTEST_CODE = 12, 40


class Pair(NamedTuple):
    """A docstring's first line, the code below it, and the file they stand in."""

    line: str
    code: str
    file: str


def python_files() -> list[Path]:
    """Every Python file of the standard library and the libraries."""
    standard = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path
        for path in standard.rglob("*.py")
        if not {"site-packages", "test", "tests", "idlelib"} & set(path.parts)
    ]
    for library in LIBRARIES:
        found = importlib.util.find_spec(library)
        if found is not None and found.origin is not None:
            files += Path(found.origin).parent.rglob("*.py")
    return sorted(files)


def pairs_of_file(path: Path) -> list[Pair]:
    """The pairs that one file holds; none if it does not parse."""
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return []
    lines = text.splitlines()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, kinds))
    pairs = (pair_of_node(node, lines, path) for node in nodes)
    return [pair for pair in pairs if pair is not None]


def pair_of_node(node: Any, lines: list[str], path: Path) -> Pair | None:
    """The pair of a function or class, or None where one half is missing or trivial."""
    docstring = ast.get_docstring(node)
    if not docstring or not docstring.strip():
        return None
    line = docstring.strip().splitlines()[0].strip()
    statement = node.body[0]
    before = lines[node.lineno - 1 : statement.lineno - 1]
    code = "\n".join(before + lines[statement.end_lineno : node.end_lineno])
    if len(line) < SHORTEST_LINE or len(code) < SHORTEST_CODE:
        return None
    return Pair(line, code, str(path))


def parse(files: list[Path]) -> list[Pair]:
    """The pairs of all files, each line and each code once."""
    seen: set[str] = set()
    pairs = []
    with ProcessPoolExecutor() as processes:
        found = processes.map(pairs_of_file, files, chunksize=32)
        for of_file in tqdm(found, total=len(files), desc="parsing", unit="file"):
            for pair in of_file:
                if pair.line not in seen and pair.code not in seen:
                    seen |= {pair.line, pair.code}
                    pairs.append(pair)
    return pairs


def load_pairs(cache: Path) -> list[Pair]:
    """The pairs, from the cache or parsed into it."""
    if cache.exists():
        return [Pair(*fields) for fields in json.loads(cache.read_text())]
    pairs = parse(python_files())
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(pairs))
    return pairs


def subwords(text: str) -> Iterator[str]:
    """Words, and the parts of snake_case and camelCase identifiers, in lower case."""
    for word in re.findall(r"[A-Za-z]+", text):
        yield from (
            part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", word)
        )


@functools.cache
def bucket(word: str) -> int:
    """A word's hash in 1..BUCKETS-1."""
    return 1 + zlib.crc32(word.encode()) % (BUCKETS - 1)


def encode(texts: list[str], length: int) -> Array:
    """int32 ``[len(texts), length]`` token buckets, padded with 0."""
    tokens = np.zeros([len(texts), length], np.int32)
    for row, text in enumerate(texts):
        buckets = [bucket(word) for word in subwords(text)][:length]
        tokens[row, : len(buckets)] = buckets
    return tokens


def is_held_out(pair: Pair) -> bool:
    """One file in ten, by a hash of its path below the libraries' folders."""
    below = "/".join(Path(pair.file).parts[-3:])
    return zlib.crc32(below.encode()) % 10 == 0


def make_data(pairs: list[Pair]) -> Any:
    """Token arrays of the pairs, split by file."""
    from examples.two_tower import Retrieval

    held_out = [pair for pair in pairs if is_held_out(pair)]
    training = [pair for pair in pairs if not is_held_out(pair)]
    return Retrieval(
        pairs={
            "query": encode([pair.line for pair in training], QUERY_TOKENS),
            "doc": encode([pair.code for pair in training], CODE_TOKENS),
        },
        queries=encode([pair.line for pair in held_out], QUERY_TOKENS),
        docs=encode([pair.code for pair in held_out], CODE_TOKENS),
        answers=np.arange(len(held_out)),
    )


def make_towers(dim: int) -> tuple[Any, Any]:
    """Mean-pooled subword embeddings, shared, and a small dense tower for each side."""
    import keras

    embedding = keras.layers.Embedding(BUCKETS, dim, mask_zero=True)

    def tower(length: int) -> Any:
        tokens = keras.Input([length], dtype="int32")
        pooled = keras.layers.GlobalAveragePooling1D()(embedding(tokens))
        hidden = keras.layers.Dense(2 * dim, activation="relu")(pooled)
        return keras.Model(tokens, keras.layers.Dense(dim)(hidden))

    return tower(QUERY_TOKENS), tower(CODE_TOKENS)


def losses(num_negatives: int) -> dict[str, Any]:
    """What is compared: this loss in its ways, and the others with the same margin."""
    from examples.losses import InBatchSoftmax, ThisLoss, printed_loss

    def drawn(sampler: str, **options: Any) -> ThisLoss:
        return ThisLoss(num_negatives, options={"sampler": sampler, **options})

    return {
        "article's printed loss": printed_loss(num_negatives),
        "this loss, shuffle": drawn("shuffle"),
        "this loss, shuffle, weight auto": drawn("shuffle", negative_weight="auto"),
        "this loss, shuffle, margin 0.4": drawn("shuffle", margin=0.4),
        "this loss, ring, weight auto": drawn("ring", negative_weight="auto"),
        "this loss, ring, margin 0.4": drawn("ring", margin=0.4),
        "this loss, all": ThisLoss(None, options={"sampler": "all"}),
        "this loss, all, margin 0.3": ThisLoss(
            None, options={"sampler": "all", "margin": 0.3}
        ),
        "in-batch softmax": InBatchSoftmax(),
        "in-batch softmax, margin 0.3": InBatchSoftmax(margin=0.3),
    }


def main() -> None:
    """Parses, trains with each loss, prints the table and writes the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--cache", type=Path, default=Path("demo/pairs.json"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--num-negatives", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--losses", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument(
        "--memory-limit",
        type=float,
        default=1000.0,
        metavar="MB",
        help="a loss that takes more in a step is not trained (default: %(default)g)",
    )
    parser.add_argument("--limit", type=int, help="use the first pairs only")
    arguments = parser.parse_args()
    # Parsing runs in processes that need no TensorFlow, so it is imported after them.
    pairs = load_pairs(arguments.cache)[: arguments.limit]
    data = make_data(pairs)
    print(f"{len(data.pairs['query'])} training pairs, {len(data.queries)} held out")

    from examples.scores import write
    from examples.two_tower import Settings, compare

    settings = Settings(
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        seeds=arguments.seeds,
        memory_limit=arguments.memory_limit,
    )
    compared = losses(arguments.num_negatives)
    for name in arguments.losses or []:
        if name not in compared:
            parser.error(f"there is no loss {name!r}; there are {', '.join(compared)}")
    chosen = {name: compared[name] for name in arguments.losses or compared}
    scores, curves = compare(data, make_towers, settings, chosen)
    title = (
        f"Code search: the right one of {len(data.docs)} held-out sources, K = "
        f"{arguments.num_negatives}, {arguments.epochs} epochs"
    )
    write(scores, curves, arguments.output, title)


if __name__ == "__main__":
    main()
