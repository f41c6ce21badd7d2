#!/usr/bin/env bash
# Installs the peers that the bench compares with: MPIs from Debian's packages, with our driver for them, and Rust crates
# (bench/peers, locked). Safe to run twice. A peer that can't be had is left out, and the bench lists it with the reason.
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

# cargo_peers FEATURE,FEATURE... : builds the Rust peers that these features name.
cargo_peers() {
  cargo build -q --release --locked --manifest-path bench/peers/Cargo.toml --target-dir target/peers/cargo \
    --no-default-features --features "$1"
}

# The Rust peers: all of them, or each that can be built.
crates() {
  local all=rtrb,ringbuf,crossbeam-channel,kanal,concurrent-queue,flume,iceoryx2,ringfire,ipc-channel
  local some="" peer why
  rm -f target/peers/left-out target/peers/sapwood-peers
  if ! cargo_peers "$all"; then
    for peer in ${all//,/ }; do
      if why=$(cargo_peers "$peer" 2>&1); then
        some+="${some:+,}$peer"
      else
        echo "$peer could not be built: $(grep -m 1 '^error' <<<"$why")" >>target/peers/left-out
      fi
    done
    cargo_peers "$some" || { echo "peers: no Rust peers" >&2 && return; }
  fi
  cp target/peers/cargo/release/sapwood-peers target/peers/sapwood-peers
  echo "peers: $(target/peers/sapwood-peers --list | cut -d' ' -f1 | tr '\n' ' ')"
}

crates
have "Open MPI" mpicc.openmpi openmpi-bin libopenmpi-dev
have MPICH mpicc.mpich mpich libmpich-dev
build openmpi mpicc.openmpi mpicc
build mpich mpicc.mpich
