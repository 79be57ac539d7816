#!/bin/sh
# Installs the server into a virtual environment of a container image: what is locked, llama.cpp
# for the given GPU (or cpu), this project's wheel and, if they are to be, the embedding model and
# the packages of models' code.
set -eu

gpu=$1
native=$2
embeddings=$3
packages=$4
target=$5

portable=--portable
if [ "$native" = ON ]; then
    portable=
fi

python3 -m venv "$target"
install="$target/bin/python -m pip --disable-pip-version-check --no-cache-dir install --quiet"
$install --require-hashes -r requirements/runtime.lock
wheel=$("$target/bin/python" tools/build_llama.py --gpu "$gpu" $portable)
$install --no-deps --no-index "$wheel"
$install --require-hashes --target /tmp/build -r requirements/build.lock
PYTHONPATH=/tmp/build $install --no-deps --no-index --no-build-isolation .

# The package carries its libraries twice and loads these from its own folder.
libraries=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$libraries/lib" "$libraries/include" "$libraries/bin"

if [ "$embeddings" = ON ]; then
    ASSISTANTS_MODELS__DIRECTORY="$libraries/server/_bundled/models" "$target/bin/assistants" embeddings
fi

if [ "$packages" = ON ]; then
    "$target/bin/assistants" packages
fi

# pip has done its work.
"$target/bin/python" -m pip --disable-pip-version-check uninstall --quiet --yes pip
