#!/usr/bin/env bash
# Installs the peers that the bench compares with, from Debian's packages, and builds our driver for them.
# Safe to run twice. A peer that can't be had is left out, and the bench lists it with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target/peers

# have NAME COMPILER PACKAGE... : installs the packages unless the compiler is there.
have() {
  local name=$1 compiler=$2
  shift 2
  command -v "$compiler" >/dev/null && return
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    echo "peers: $name can't be installed" >&2
}

# build NAME COMPILER... : builds the driver with the first of the compilers that is there.
build() {
  local name=$1 compiler
  shift
  for compiler in "$@"; do
    if command -v "$compiler" >/dev/null; then
      "$compiler" -O3 -march=native -Wall -o "target/peers/$name" bench/peers/mpi_driver.c
      echo "peers: $name by $compiler"
      return
    fi
  done
  rm -f "target/peers/$name"
  echo "peers: no $name" >&2
}

have "Open MPI" mpicc.openmpi openmpi-bin libopenmpi-dev
have MPICH mpicc.mpich mpich libmpich-dev
build openmpi mpicc.openmpi mpicc
build mpich mpicc.mpich
