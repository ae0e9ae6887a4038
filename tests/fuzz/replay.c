/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main() of a fuzz target without libFuzzer: hands it each file named, and each file of a
 * directory named (TAP). Serves as the replay of a corpus, and AFL with @@.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (1 << 20) /* corpora are small; a larger file is a mistake */

static int replayed;

static int replay_file(const char *path)
{
	uint8_t *room = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rbe");

	if (!room || !f) {
		(void) fprintf(stderr, "%s: %s\n", path, strerror(errno));
		free(room);
		return -1;
	}
	const size_t n = fread(room, 1, INPUT_MAX, f);
	(void) fclose(f);

	/* In a block of its own size, so that sanitizers see a byte too far. */
	uint8_t *data = malloc(n > 0 ? n : 1);
	if (!data)
		abort();
	memcpy(data, room, n);
	(void) LLVMFuzzerTestOneInput(data, n);
	free(data);
	free(room);
	printf("ok %d - %s\n", ++replayed, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
	(void) fflush(stdout);
	return 0;
}

static int replay(const char *path)
{
	struct dirent **entries;
	const int n = scandir(path, &entries, NULL, alphasort);
	int rc = 0;

	if (n < 0)
		return replay_file(path);
	for (int i = 0; i < n; i++) {
		char file[4096];

		if (entries[i]->d_name[0] != '.') {
			(void) snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
			rc |= replay_file(file);
		}
		free(entries[i]);
	}
	free(entries);
	return rc;
}

int main(int argc, char **argv)
{
	int rc = 0;

	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i]);
	printf("1..%d\n", replayed);
	return rc != 0 || replayed == 0;
}
