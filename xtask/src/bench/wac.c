/*
 * wac profile a in C: the baseline of `cargo xtask bench wac`.
 *
 * wac FOLDER THREADS FILE_SIZE IO_SIZE MILLISECONDS
 *
 * Each thread opens the file and allocates a page-aligned buffer. All threads start at the same time.
 * Until the time is over, a thread stamps the buffer, writes it to a random multiple of IO_SIZE, starts
 * the writeback of that range and waits for it. One line of output has the number of operations and the
 * duration.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct worker {
	_Alignas(128) uint64_t operations;
	uint64_t errors;
	uint64_t random;
	uint64_t number;
	uint64_t *buffer;
	pthread_t thread;
	int file;
};

static size_t io_size;
static uint64_t slots;
static atomic_bool halt;
static pthread_barrier_t start;

static void die(const char *what)
{
	fprintf(stderr, "wac.c: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* xorshift64*, Marsaglia 2003 and Vigna 2016: never 0 if the initial value is not 0. */
static uint64_t next_random(struct worker *worker)
{
	uint64_t x = worker->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	worker->random = x;
	return x * 2685821657736338717u;
}

static void *rewrite(void *argument)
{
	struct worker *worker = argument;
	uint64_t generation = 0;

	pthread_barrier_wait(&start);
	while (!atomic_load_explicit(&halt, memory_order_relaxed)) {
		uint64_t slot = (unsigned __int128)next_random(worker) * slots >> 64;
		off_t offset = slot * io_size;
		uint64_t stamp = worker->number << 48 | generation++;

		for (size_t word = 0; word < io_size / sizeof(stamp); word++)
			((volatile uint64_t *)worker->buffer)[word] = stamp;
		if (pwrite(worker->file, worker->buffer, io_size, offset) != (ssize_t)io_size ||
		    sync_file_range(worker->file, offset, io_size,
				    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					    SYNC_FILE_RANGE_WAIT_AFTER)) {
			worker->errors++;
			continue;
		}
		worker->operations++;
	}
	return NULL;
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: wac FOLDER THREADS FILE_SIZE IO_SIZE MILLISECONDS\n");
		return 2;
	}
	unsigned int threads = strtoul(argv[2], NULL, 10);
	off_t file_size = strtoull(argv[3], NULL, 10);
	uint64_t duration = strtoull(argv[5], NULL, 10);
	char path[4096];
	int first;

	io_size = strtoul(argv[4], NULL, 10);
	slots = file_size / io_size;
	snprintf(path, sizeof(path), "%s/.wac-c.%d", argv[1], getpid());
	first = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (first < 0)
		die(path);
	if (fallocate(first, 0, 0, file_size))
		die("fallocate");

	struct worker *workers = aligned_alloc(128, threads * sizeof(*workers));
	if (!workers || pthread_barrier_init(&start, NULL, threads + 1))
		die("cannot allocate");
	for (unsigned int number = 0; number < threads; number++) {
		struct worker *worker = &workers[number];

		memset(worker, 0, sizeof(*worker));
		worker->number = number;
		worker->random = 88172645463325252u + 2654435769u * number;
		worker->file = open(path, O_RDWR | O_CLOEXEC);
		worker->buffer = mmap(NULL, io_size, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (worker->file < 0 || worker->buffer == MAP_FAILED)
			die("cannot set up a thread");
		if (pthread_create(&worker->thread, NULL, rewrite, worker))
			die("pthread_create");
	}
	pthread_barrier_wait(&start);
	uint64_t began = now();
	while (now() - began < duration * 1000000) {
		uint64_t left = duration * 1000000 - (now() - began);
		struct timespec tick = { 0, left < 20000000 ? (long)left : 20000000 };

		nanosleep(&tick, NULL);
	}
	atomic_store(&halt, true);

	uint64_t operations = 0, errors = 0;
	for (unsigned int number = 0; number < threads; number++) {
		pthread_join(workers[number].thread, NULL);
		operations += workers[number].operations;
		errors += workers[number].errors;
	}
	uint64_t elapsed = now() - began;
	unlink(path);
	printf("{\"state\":\"finished\",\"operations\":%llu,\"failures\":%llu,\"elapsed_ns\":%llu}\n",
	       (unsigned long long)operations, (unsigned long long)errors,
	       (unsigned long long)elapsed);
	return 0;
}
