"""llama.cpp's own server with a Llama of random weights, to stand beside ours.

Its sources come with llama-cpp-python. In the folder vendor/llama.cpp of that package's source archive:

    cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF \\
        -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DBUILD_SHARED_LIBS=OFF
    cmake --build build --target llama-server
"""

import http.client
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.llama_cpp import write_gguf
from benchmarks.peers import CausalLM, build, parameters
from liquidlm.inference.model_folders import find_folder
from liquidlm.text.tokenizer import LEDTokenizerWrapper

SLOTS, CONTEXT = 32, 512
"""Texts at a time, and the longest of them."""
LAYERS = 7
"""So it has about as many parameters as the bundled model."""
PATIENCE = 120.0
"""Seconds for it to load the model."""


@contextmanager
def llama_server(program: Path, folder: str) -> Iterator[tuple[int, int]]:
    """The port of one with a Llama that has the tokenizer of `folder`, and its number of parameters."""
    tokenizer = LEDTokenizerWrapper(find_folder(folder))
    peer = build("llama", tokenizer.vocab_size, CONTEXT, layers=LAYERS)
    assert isinstance(peer, CausalLM)
    with tempfile.TemporaryDirectory() as place:
        tokenizer.save_pretrained(place)
        file = Path(place) / "llama.gguf"
        write_gguf(peer.model.eval(), file, "F32", CONTEXT, Path(place) / "tokenizer.json")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(program), "-m", str(file), "--port", str(port), "--parallel", str(SLOTS)]
        command += ["-c", str(SLOTS * CONTEXT), "-t", str(torch.get_num_threads()), "--alias", "stories"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(port, process)
            yield port, parameters(peer)
        finally:
            process.terminate()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it has loaded the model."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"llama.cpp's server did not start (exit code {process.poll()})")
