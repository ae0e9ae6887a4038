/* SPDX-License-Identifier: Apache-2.0 */
/* A mapping that outlives the right to look at its file: privileges dropped after the first use. */
#include "core/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "service.v1.state"

static void init(void *body, void *arg)
{
	(void) body;
	(void) arg;
}

/* In a child, which gives up being root, or having the directory open to it, for good. */
static int looks_without_permission(const struct segment *s, const char *dir, const char *path)
{
	if (geteuid() == 0 ? setresuid(65534, 65534, 65534) < 0 : chmod(dir, 0) < 0)
		return 2;
	if (access(path, F_OK) == 0 || errno != EACCES)
		return 3;
	return segment_gone(s, AT_FDCWD, path);
}

static void what_cannot_be_seen_is_not_gone(void **state)
{
	char dir[] = "/tmp/agentshim-kept-XXXXXX", path[64], reason[SEGMENT_REASON_SIZE];
	struct segment s;
	int status;

	(void) state;
	assert_non_null(mkdtemp(dir));
	(void) snprintf(path, sizeof(path), "%s/%s", dir, NAME);

	const int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct segment_spec spec = {
		.dirfd = dirfd, .name = NAME, .kind = SEGMENT_STATE, .layout = 1,
		.body_size = 4096, .service = "service", .creator = "test",
		.boot_id = { 1 }, .init = init, .close_fd = close,
	};

	assert_int_equal(segment_open(&spec, &s, reason), 0);
	assert_false(segment_gone(&s, AT_FDCWD, path));

	const pid_t pid = fork();

	if (pid == 0)
		_exit(looks_without_permission(&s, dir, path));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void) chmod(dir, 0700);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);

	assert_int_equal(unlinkat(dirfd, NAME, 0), 0);
	assert_true(segment_gone(&s, AT_FDCWD, path));
	(void) close(dirfd);
	(void) rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_seen_is_not_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
