/* One rank of an MPI peer. Takes its orders as every contender of the bench does (bench/src/contender.rs): a line
 * "BENCH BYTES ITERATIONS" from DIR/order.RANK, answered with "NANOSECONDS CHECKSUM" to DIR/answer.RANK. While it
 * waits for an order it sleeps in read(2), so that idle peers take no processor time from the others.
 *
 *     mpirun -n 2 mpi_driver DIR     (rank i is pinned to CPU i mod the number of CPUs)
 */
#define _GNU_SOURCE
#include <mpi.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 << 20, SHORT = 4096 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static float *tensor;
static int rank, size;

/* The same values as bench/src/work.rs: small whole numbers, so that sums are exact in any order. */
static void fill(size_t n, long round) {
    float base = (float)((rank + round) % 7 + 1);
    for (size_t i = 0; i < n; i++)
        tensor[i] = base;
}

/* Values of which no two within 1021 are alike, so that parts in the wrong place are seen; sums are exact. */
static void fill_known(size_t n) {
    for (size_t i = 0; i < n; i++)
        tensor[i] = (float)(i % 1021 + 1 + rank);
}

static void operation(const char *bench, size_t n) {
    if (!strcmp(bench, "allreduce"))
        MPI_Allreduce(MPI_IN_PLACE, tensor, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    else if (!strcmp(bench, "bcast"))
        MPI_Bcast(tensor, n, MPI_FLOAT, 0, MPI_COMM_WORLD);
    else
        MPI_Barrier(MPI_COMM_WORLD);
}

static double measure(const char *bench, size_t bytes, long iterations) {
    size_t n = bytes / 4;
    for (long i = 0; i < iterations / 10 + 2; i++) {
        fill(n, i);
        operation(bench, n);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (bytes <= SHORT) {
        double start = now();
        for (long i = 0; i < iterations; i++) {
            fill(n, i);
            __asm__ volatile("" ::"r"(tensor) : "memory");
        }
        double rewriting = now() - start;
        MPI_Barrier(MPI_COMM_WORLD);
        start = now();
        for (long i = 0; i < iterations; i++) {
            fill(n, i);
            operation(bench, n);
        }
        return (now() - start - rewriting) / iterations;
    }
    double spent = 0;
    for (long i = 0; i < iterations; i++) {
        fill(n, i);
        MPI_Barrier(MPI_COMM_WORLD);
        double start = now();
        operation(bench, n);
        spent += now() - start;
    }
    return spent / iterations;
}

static uint64_t checksum(size_t n) {
    uint64_t sum = n;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &tensor[i], 4);
        sum = sum * 31 + bits;
    }
    return sum;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    cpu_set_t cpu;
    CPU_ZERO(&cpu);
    CPU_SET(rank % sysconf(_SC_NPROCESSORS_ONLN), &cpu);
    sched_setaffinity(0, sizeof cpu, &cpu);
    tensor = aligned_alloc(4096, MOST);
    memset(tensor, 0, MOST);

    char path[4096], bench[32];
    snprintf(path, sizeof path, "%s/order.%d", argv[1], rank);
    FILE *orders = fopen(path, "r");
    snprintf(path, sizeof path, "%s/answer.%d", argv[1], rank);
    FILE *answers = fopen(path, "w");
    if (!orders || !answers)
        MPI_Abort(MPI_COMM_WORLD, 2);
    fprintf(answers, "0 0\n");
    fflush(answers);
    size_t bytes;
    long iterations;
    while (fscanf(orders, "%31s %zu %ld", bench, &bytes, &iterations) == 3) {
        double ns = measure(bench, bytes, iterations);
        /* Once more from known values, for the bench to check. */
        fill_known(bytes / 4);
        operation(bench, bytes / 4);
        fprintf(answers, "%.1f %llu\n", ns, (unsigned long long)checksum(bytes / 4));
        fflush(answers);
    }
    MPI_Finalize();
    return 0;
}
