"""Check what a release consists of: builds it, and tries it where nothing else is installed. Needs the group `release`.

    python scripts/check_release.py [--extras "" cli cli,plot all] [--python python3.11] [--pip-args=...]

1. Builds the sdist, and the wheel from the sdist; the long description renders.
2. Unpacks the sdist and runs some of its tests there, with the packages of this environment.
3. Installs the wheel into an empty environment for each set of extras, and runs what should work there, and what should
   say what is missing. uv installs where it is found, as it needs seconds where pip needs minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("", "cli", "cli,plot", "cli,tables", "cli,report", "all")
TESTS = ("test_packaging.py", "test_golden.py", "test_public_api.py", "test_startup.py")
FIT = "import numpy; from cosmeans import KMeans; print(KMeans(3, verbose=0, random_state=0).fit(numpy.eye(9)).n_iter_)"


def run(*command: str | Path, code: int = 0, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command says. Ends this script unless it exits with `code`."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )
    if done.returncode != code:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def built(folder: Path) -> tuple[Path, Path]:
    """The sdist and the wheel, whose long description renders."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    twine = shutil.which("twine") or sys.exit("twine is missing: pip install --group release")
    run(twine, "check", "--strict", sdist, wheel)
    print(f"built and rendered: {sdist.name}, {wheel.name}")
    return sdist, wheel


def check_sdist(sdist: Path, folder: Path) -> None:
    """The unpacked sdist passes some of its tests, and the others can be collected."""
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    tests = [source / "tests" / name for name in TESTS]
    environment = {"PYTHONPATH": str(source / "src")}
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    for arguments in (tests, ["--collect-only", source / "tests"]):
        told = run(*pytest, *arguments, cwd=source, env=environment)
        print("in the sdist:", [line for line in told.splitlines() if line.strip()][-1])


def installed(wheel: Path, extras: str, folder: Path, python: str, pip_args: list[str]) -> Path:
    """The folder of programs of an empty environment with the wheel."""
    uv, place = shutil.which("uv"), folder / (extras or "none").replace(",", "-")
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    constraints = ("-c", ROOT / "constraints.txt", *pip_args)
    if uv:
        run(uv, "venv", "--python", python, place)
        run(uv, "pip", "install", "--python", place, *constraints, wanted)
    else:
        run(python, "-m", "venv", place)
        run(place / "bin" / "python", "-m", "pip", "install", *constraints, wanted)
    return place / "bin"


def check_extras(programs: Path, extras: str, folder: Path) -> None:
    """What works with these extras works, and what does not says what is missing."""
    python, cosmeans = programs / "python", programs / "cosmeans"
    folder.mkdir()
    run(python, "-c", FIT, cwd=folder)
    assert run(cosmeans, "--version").startswith("cosmeans ")
    if not extras:
        assert 'pip install "cosmeans[cli]"' in run(cosmeans, "--help", code=2)
        return
    assert "choose-k" in run(cosmeans, "--help")
    run(
        python,
        "-c",
        "import numpy; numpy.save('rows.npy', numpy.random.default_rng(0).normal(size=(90, 8)))",
        cwd=folder,
    )
    told = run(cosmeans, "fit", "rows.npy", "-k", "3", "--out", "clusters", cwd=folder)
    for extra, file in (("plot", "convergence.png"), ("tables", "labels.parquet")):
        there = extra in extras or extras == "all"
        assert (folder / "clusters" / file).exists() == there, (extras, file)
        assert (f"{file} is left out" in told) == (not there), told
        assert there or f'pip install "cosmeans[{extra}]"' in told, told
    run(cosmeans, "report", "clusters", "rows.npy", cwd=folder)  # torch brings jinja2
    run(cosmeans, "predict", "clusters", "rows.npy", cwd=folder)
    if extras == "all":
        run(cosmeans, "demo", cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="*", default=EXTRAS, help="sets of extras, each with its own environment")
    parser.add_argument("--python", default=sys.executable, help="the Python of these environments")
    parser.add_argument("--pip-args", default="", help="more arguments of the installer, such as an index")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sdist, wheel = built(folder / "dist")
        check_sdist(sdist, folder / "sdist")
        for number, extras in enumerate(asked.extras):
            programs = installed(wheel, extras, folder, asked.python, asked.pip_args.split())
            check_extras(programs, extras, folder / f"work{number}")
            print(f"the wheel with {extras or 'no extra'}: as it should be")


if __name__ == "__main__":
    main()
