"""The two sides of a comparison with fastai: a Python that has it, and this crate's programs. When run as a
program, it prints the packages that this Python needs."""
import json, os, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["torch==2.11.0", "torchvision==0.26.0", "fastai==2.8.12", "timm==1.0.31"]


def python():
    "Returns a Python with fastai: the one that VERSUS_PYTHON names, otherwise one in `.venv`, installed if needed."
    given = os.environ.get("VERSUS_PYTHON")
    if given:
        return given
    venv = ROOT / ".venv"
    if not venv.exists():
        part = ROOT / ".venv.part"
        subprocess.run(["rm", "-rf", part], check=True)
        print("installing fastai into .venv (about 5 GB)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", part], check=True)
        pip = [part / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PACKAGES], check=True)
        part.rename(venv)
    return str(venv / "bin" / "python")


def programs(*flags):
    "Builds this crate's programs with these flags. Returns their paths by the names of the targets."
    build = ["cargo", "build", "--quiet", *flags, "--message-format", "json"]
    built = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    artifacts = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return {a["target"]["name"]: a["executable"] for a in artifacts if a.get("executable")}


def bench(name):
    "Builds one of this crate's benches and returns its path."
    return programs("--profile", "bench", "--bench", name)[name]


def answer(command):
    "Runs a command and returns the JSON on the last line of its output."
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return json.loads(lines[-1])


if __name__ == "__main__":
    print(*PACKAGES)
