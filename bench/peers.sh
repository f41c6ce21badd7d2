#!/usr/bin/env bash
# Installs the peers that the bench compares with, from Debian's packages, and builds our driver for them.
# Safe to run twice. A peer that can't be had is left out, and the bench lists it with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v mpicc >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends openmpi-bin libopenmpi-dev >/dev/null
fi
mkdir -p target/peers
mpicc -O3 -march=native -Wall -o target/peers/openmpi bench/peers/mpi_driver.c
mpirun --version | head -n 1
