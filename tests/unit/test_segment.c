/* SPDX-License-Identifier: Apache-2.0 */
/* The service's file: made once by whoever is first, and every doubtful one refused. */
#include "core/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME   "service-0123456789abcdef.v1.state"
#define BODY   (64 * 1024)
#define FILE_SIZE (SEGMENT_BODY_OFFSET + BODY)
#define LAID   41 /* what init() leaves in the first word */
#define RACERS 8
#define ROUNDS 30

static char dir[64];
static int dirfd_here, fds_before;
static char reason[SEGMENT_REASON_SIZE];

static void init(void *body, void *arg)
{
	/* Zero-filled before, and laid out before anybody else can see it. */
	if (*(uint64_t *) body == 0)
		*(uint64_t *) body = LAID;
	if (arg != NULL)
		++*(int *) arg;
}

static struct segment_spec spec_here(void)
{
	return (struct segment_spec) {
		.dirfd = dirfd_here,
		.name = NAME,
		.kind = SEGMENT_STATE,
		.layout = 1,
		.body_size = BODY,
		.service = "service",
		.creator = "/usr/bin/service",
		.boot_id = { 1, 2, 3 },
		.timens = 4026531834,
		.now_wall_ns = 1,
		.init = init,
		.close_fd = close,
	};
}

/* What is in the directory; @only: NULL, or the name that alone may be there. */
static int files(const char *only)
{
	DIR *d = opendir(dir);
	int n = 0;

	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.') {
			if (only != NULL)
				assert_string_equal(e->d_name, only);
			n++;
		}
	(void) closedir(d);
	return n;
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	(void) closedir(d);
	return n;
}

static int make(void **state)
{
	(void) state;
	strcpy(dir, "/tmp/agentshim-segment-XXXXXX");
	fds_before = descriptors();
	if (mkdtemp(dir) == NULL)
		return -1;
	reason[0] = '\0';
	dirfd_here = segment_dir(dir, geteuid(), close, reason);
	return dirfd_here < 0 ? -1 : 0;
}

static int drop(void **state)
{
	DIR *d = opendir(dir);

	(void) state;
	if (d == NULL)
		return -1;
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		if (unlinkat(dirfd_here, e->d_name, 0) < 0)
			(void) unlinkat(dirfd_here, e->d_name, AT_REMOVEDIR);
	(void) closedir(d);
	(void) close(dirfd_here);
	(void) rmdir(dir);
	/* Whatever the test did, nothing of it stays open. */
	assert_int_equal(descriptors(), fds_before);
	return 0;
}

/* Runs @what in a child, since it changes what cannot be changed back. Its exit status, or
 * 128 and more when it was killed. */
static int in_child(int (*what)(void))
{
	const pid_t pid = fork();
	int status;

	if (pid == 0) {
		(void) alarm(60);
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define CANNOT 77 /* a child's status: the machine lacks what the test needs */

static void skip_lacking(const char *what)
{
	print_message("# skip: capability missing: %s\n", what);
	skip();
}

static void unmap(struct segment *s)
{
	assert_int_equal(munmap(s->header, s->size), 0);
}

static void the_first_makes_it_and_the_second_finds_it(void **state)
{
	struct segment_spec spec = spec_here();
	struct segment first, second;
	struct stat st;
	int laid_out = 0;

	(void) state;
	spec.arg = &laid_out;
	assert_int_equal(segment_open(&spec, &first, reason), 0);
	assert_int_equal(segment_open(&spec, &second, reason), 0);
	assert_int_equal(laid_out, 1);
	assert_int_equal(files(NAME), 1);
	assert_true(first.shared && second.shared);
	assert_true(first.ino == second.ino && first.dev == second.dev);
	assert_int_equal(*(uint64_t *) second.body, LAID);
	*(uint64_t *) first.body = 7;
	assert_int_equal(*(uint64_t *) second.body, 7);

	assert_memory_equal(first.header->magic, "agntshim", 8);
	assert_int_equal(first.header->creator_pid, getpid());
	assert_string_equal(first.header->service, "service");
	assert_string_equal(first.header->creator, "/usr/bin/service");

	/* Every block is there: writing to a hole of a full tmpfs would be SIGBUS. */
	assert_int_equal(fstatat(dirfd_here, NAME, &st, 0), 0);
	assert_int_equal(st.st_size, FILE_SIZE);
	assert_true(st.st_blocks * 512 >= FILE_SIZE);
	assert_int_equal(st.st_mode & 07777, 0600);
	unmap(&first);
	unmap(&second);
}

static void long_names_of_service_and_creator_are_cut(void **state)
{
	char name[400];
	struct segment_spec spec = spec_here();
	struct segment s;

	(void) state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	spec.service = spec.creator = name;
	assert_int_equal(segment_open(&spec, &s, reason), 0);
	assert_int_equal(strlen(s.header->service), sizeof(s.header->service) - 1);
	assert_int_equal(strlen(s.header->creator), sizeof(s.header->creator) - 1);
	unmap(&s);
}

/* ---- races ---- */

/* What the racers of one round share. */
struct track {
	_Atomic int opened;
	struct {
		ino_t ino;
		int rc;
		bool shared;
	} lane[RACERS];
};

/* Opens as soon as the gate is shut; then, when all have, looks again as the shim does. */
static void race(struct track *track, int lane, int gate)
{
	const struct segment_spec spec = spec_here();
	struct segment s;
	char c;

	while (read(gate, &c, 1) < 0 && errno == EINTR)
		;
	track->lane[lane].rc = segment_open(&spec, &s, reason);
	atomic_fetch_add(&track->opened, 1);
	while (atomic_load(&track->opened) < RACERS)
		(void) sched_yield();
	if (track->lane[lane].rc == 0 && segment_gone(&s, dirfd_here, NAME))
		track->lane[lane].rc = segment_open(&spec, &s, reason);
	if (track->lane[lane].rc != 0)
		return;
	track->lane[lane].ino = s.ino;
	track->lane[lane].shared = s.shared;
	atomic_fetch_add((_Atomic uint64_t *) s.body, 1);
}

static void run_race(struct track *track)
{
	const struct segment_spec spec = spec_here();
	struct segment s;
	pid_t pids[RACERS];
	int gate[2];

	memset(track, 0, sizeof(*track));
	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			(void) alarm(60);
			(void) close(gate[1]);
			race(track, i, gate[0]);
			_exit(0);
		}
		assert_true(pids[i] > 0);
	}
	(void) close(gate[0]);
	(void) close(gate[1]);
	for (int i = 0; i < RACERS; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(segment_open(&spec, &s, reason), 0);
	for (int i = 0; i < RACERS; i++) {
		assert_int_equal(track->lane[i].rc, 0);
		assert_true(track->lane[i].shared);
		assert_int_equal(track->lane[i].ino, s.ino);
	}
	assert_int_equal(*(uint64_t *) s.body, LAID + RACERS);
	unmap(&s);
	assert_int_equal(files(NAME), 1); /* nor is anything left over from the slower ones */
}

static struct track *track_make(void)
{
	struct track *track = mmap(NULL, sizeof(*track), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(track != MAP_FAILED);
	return track;
}

static void eight_processes_at_once_end_in_one_file(void **state)
{
	struct track *track = track_make();

	(void) state;
	for (int i = 0; i < ROUNDS; i++) {
		run_race(track);
		assert_int_equal(unlinkat(dirfd_here, NAME, 0), 0);
	}
	(void) munmap(track, sizeof(*track));
}

static void make_one_of_another_boot(void)
{
	struct segment_spec spec = spec_here();
	struct segment s;

	spec.boot_id[0] ^= 0xff;
	assert_int_equal(segment_open(&spec, &s, reason), 0);
	*(uint64_t *) s.body = 99;
	unmap(&s);
}

static void eight_processes_after_a_boot_end_in_one_new_file(void **state)
{
	struct track *track = track_make();

	(void) state;
	for (int i = 0; i < ROUNDS; i++) {
		make_one_of_another_boot();
		run_race(track);
		assert_int_equal(unlinkat(dirfd_here, NAME, 0), 0);
	}
	(void) munmap(track, sizeof(*track));
}

static void a_file_of_another_boot_is_replaced(void **state)
{
	const struct segment_spec spec = spec_here();
	struct segment s;

	(void) state;
	make_one_of_another_boot();
	assert_int_equal(segment_open(&spec, &s, reason), 0);
	assert_int_equal(*(uint64_t *) s.body, LAID);
	assert_memory_equal(s.header->boot_id, spec.boot_id, 16);
	assert_int_equal(files(NAME), 1);
	unmap(&s);
}

/* ---- what stands in its place ---- */

/* Nothing was mapped, the reason names file and trouble, and what stood there still stands. */
static void assert_refused(const struct segment_spec *spec, int error, const char *said)
{
	struct segment s, untouched;
	struct stat before, after;

	memset(&s, 0x5a, sizeof(s));
	memset(&untouched, 0x5a, sizeof(s));
	assert_int_equal(fstatat(dirfd_here, NAME, &before, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(segment_open(spec, &s, reason), -error);
	assert_memory_equal(&s, &untouched, sizeof(s));
	assert_int_equal(fstatat(dirfd_here, NAME, &after, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(before.st_ino == after.st_ino && before.st_size == after.st_size);
	assert_non_null(strstr(reason, NAME));
	if (strstr(reason, said) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", reason, said);
	assert_int_equal(files(NAME), 1);
}

static void edit(off_t at, const void *bytes, size_t n)
{
	const int fd = openat(dirfd_here, NAME, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, at), n);
	(void) close(fd);
}

static void resize(off_t size)
{
	const int fd = openat(dirfd_here, NAME, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	(void) close(fd);
}

static void wrong_magic(void)
{
	edit(0, "agntsham", 8);
}

static void wrong_layout(void)
{
	edit(offsetof(struct segment_header, layout), &(uint32_t) { 2 }, 4);
}

static void wrong_kind(void)
{
	edit(offsetof(struct segment_header, kind), &(uint32_t) { SEGMENT_RING }, 4);
}

static void wrong_size_in_the_header(void)
{
	edit(offsetof(struct segment_header, size), &(uint64_t) { FILE_SIZE + 1 }, 8);
}

static void one_byte_short(void)
{
	resize(FILE_SIZE - 1);
}

static void one_page_long(void)
{
	resize(FILE_SIZE + 4096);
}

static void empty(void)
{
	resize(0);
}

static void half_a_header(void)
{
	resize(20);
}

static void writable_by_others(void)
{
	assert_int_equal(fchmodat(dirfd_here, NAME, 0666, 0), 0);
}

static void of_another_time_namespace(void)
{
	edit(offsetof(struct segment_header, timens), &(uint64_t) { 1 }, 8);
}

static void noise(void)
{
	char bytes[SEGMENT_BODY_OFFSET];

	srand(1);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char) rand();
	edit(0, bytes, sizeof(bytes));
}

static void a_directory(void)
{
	assert_int_equal(unlinkat(dirfd_here, NAME, 0), 0);
	assert_int_equal(mkdirat(dirfd_here, NAME, 0700), 0);
}

static void a_fifo(void)
{
	assert_int_equal(unlinkat(dirfd_here, NAME, 0), 0);
	assert_int_equal(mkfifoat(dirfd_here, NAME, 0600), 0);
}

static void a_link_to_nothing(void)
{
	assert_int_equal(unlinkat(dirfd_here, NAME, 0), 0);
	assert_int_equal(symlinkat("nowhere", dirfd_here, NAME), 0);
}

/* Even one that leads to a good file: whoever can place links could lead us anywhere. */
static void a_link_to_a_good_file(void)
{
	char target[128];

	(void) snprintf(target, sizeof(target), "%s-target", dir);
	assert_int_equal(renameat(dirfd_here, NAME, AT_FDCWD, target), 0);
	assert_int_equal(symlinkat(target, dirfd_here, NAME), 0);
}

static void what_is_not_as_expected_is_refused_and_left_alone(void **state)
{
	static const struct {
		const char *name;
		void (*spoil)(void);
		int error;
		const char *said;
	} cases[] = {
		{ "wrong magic",              wrong_magic,              EINVAL, "this version" },
		{ "wrong layout",             wrong_layout,             EINVAL, "this version" },
		{ "wrong kind",               wrong_kind,               EINVAL, "this version" },
		{ "wrong size in the header", wrong_size_in_the_header, EINVAL, "this version" },
		{ "one byte short",           one_byte_short,           EINVAL, "this version" },
		{ "one page long",            one_page_long,            EINVAL, "this version" },
		{ "empty",                    empty,                    EINVAL, "this version" },
		{ "half a header",            half_a_header,            EINVAL, "this version" },
		{ "noise",                    noise,                    EINVAL, "this version" },
		{ "writable by others",       writable_by_others,       EINVAL, "nobody else" },
		{ "another time namespace",   of_another_time_namespace, EINVAL, "time namespace" },
		{ "a directory",              a_directory,              EISDIR, "EISDIR" },
		{ "a FIFO",                   a_fifo,                   EINVAL, "regular file" },
		{ "a link to nothing",        a_link_to_nothing,        ELOOP,  "ELOOP" },
		{ "a link to a good file",    a_link_to_a_good_file,    ELOOP,  "ELOOP" },
	};
	const struct segment_spec spec = spec_here();

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct segment s;
		char target[128];

		print_message("# %s\n", cases[i].name);
		assert_int_equal(segment_open(&spec, &s, reason), 0);
		unmap(&s);
		cases[i].spoil();
		assert_refused(&spec, cases[i].error, cases[i].said);
		if (unlinkat(dirfd_here, NAME, 0) < 0)
			assert_int_equal(unlinkat(dirfd_here, NAME, AT_REMOVEDIR), 0);
		(void) snprintf(target, sizeof(target), "%s-target", dir);
		(void) unlink(target);
	}
}

static void a_size_within_bounds_is_the_files_own(void **state)
{
	struct segment_spec spec = spec_here();
	struct segment made, joined;

	(void) state;
	assert_int_equal(segment_open(&spec, &made, reason), 0);
	spec.body_size = 2 * BODY;
	assert_refused(&spec, EINVAL, "this version");
	spec.body_min = BODY + 1;
	spec.body_max = 4 * BODY;
	assert_refused(&spec, EINVAL, "this version");
	spec.body_min = BODY / 4;
	spec.body_max = BODY - 1;
	assert_refused(&spec, EINVAL, "this version");
	spec.body_max = BODY;
	assert_int_equal(segment_open(&spec, &joined, reason), 0);
	assert_int_equal(joined.size, FILE_SIZE);
	assert_true(joined.ino == made.ino);
	unmap(&joined);
	/* The header's size is the file's, not any in between. */
	resize(FILE_SIZE - 4096);
	assert_refused(&spec, EINVAL, "this version");
	segment_drop(&made);
	assert_null(made.header);
	segment_drop(&made); /* nothing to do */

	/* One of another boot gives way to one of the size that we make. */
	resize(FILE_SIZE);
	spec.boot_id[0] ^= 1;
	assert_int_equal(segment_open(&spec, &made, reason), 0);
	assert_int_equal(made.size, SEGMENT_BODY_OFFSET + 2 * BODY);
	segment_drop(&made);
}

static void another_users_file_is_refused(void **state)
{
	const struct segment_spec spec = spec_here();
	struct segment s;

	(void) state;
	if (geteuid() != 0)
		skip_lacking("root");
	assert_int_equal(segment_open(&spec, &s, reason), 0);
	unmap(&s);
	assert_int_equal(fchownat(dirfd_here, NAME, 65534, 65534, 0), 0);
	assert_refused(&spec, EINVAL, "effective user");
}

/* ---- the directory ---- */

static void the_directory_is_made_private(void **state)
{
	char path[128];
	struct stat st;

	(void) state;
	(void) snprintf(path, sizeof(path), "%s/new", dir);

	const int fd = segment_dir(path, geteuid(), close, reason);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	(void) close(fd);
	assert_int_equal(rmdir(path), 0);
}

static void a_doubtful_directory_is_refused(void **state)
{
	char path[160];

	(void) state;
	assert_int_equal(segment_dir("relative", geteuid(), close, reason), -EINVAL);
	assert_non_null(strstr(reason, "absolute"));
	(void) snprintf(path, sizeof(path), "%s/none/new", dir);
	assert_int_equal(segment_dir(path, geteuid(), close, reason), -ENOENT);

	(void) snprintf(path, sizeof(path), "%s/link", dir);
	assert_int_equal(symlink("/tmp", path), 0);
	assert_true(segment_dir(path, geteuid(), close, reason) < 0);
	assert_non_null(strstr(reason, path));

	/* Under /tmp anybody could have made it first. */
	assert_int_equal(segment_dir(dir, geteuid() + 1, close, reason), -EINVAL);
	assert_int_equal(chmod(dir, 0770), 0);
	assert_int_equal(segment_dir(dir, geteuid(), close, reason), -EINVAL);
	assert_int_equal(chmod(dir, 0702), 0);
	assert_int_equal(segment_dir(dir, geteuid(), close, reason), -EINVAL);
	assert_non_null(strstr(reason, "nobody else"));
	assert_int_equal(chmod(dir, 0755), 0);

	const int fd = segment_dir(dir, geteuid(), close, reason);

	assert_true(fd >= 0);
	(void) close(fd);
}

/* ---- no room ---- */

/* A tmpfs of our own over the directory, unseen by everybody else. */
static bool mount_here(const char *options, unsigned long flags)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, "tmpfs", flags, options) < 0)
		return false;
	dirfd_here = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_here >= 0;
}

/* 0: refused with @error, nothing left behind; else what went wrong. */
static int refused(const struct segment_spec *spec, int error)
{
	struct segment s;
	const int before = descriptors();

	if (segment_open(spec, &s, reason) != -error)
		return 1;
	if (strstr(reason, NAME) == NULL)
		return 2;
	if (files(NULL) != 0)
		return 3;
	return descriptors() == before ? 0 : 4;
}

static int in_a_tiny_tmpfs(void)
{
	struct segment_spec spec = spec_here();

	if (!mount_here("size=1m", 0))
		return CANNOT;
	spec.dirfd = dirfd_here;
	spec.body_size = 2 << 20;

	const int rc = refused(&spec, ENOSPC);
	struct segment s;

	if (rc != 0)
		return rc;
	/* What did not fit took no room either: a small one does. */
	spec.body_size = BODY;
	return segment_open(&spec, &s, reason) == 0 ? 0 : 5;
}

static int in_a_full_tmpfs(void)
{
	struct segment_spec spec = spec_here();
	static const char page[4096];

	if (!mount_here("size=256k", 0))
		return CANNOT;
	spec.dirfd = dirfd_here;

	const int fd = openat(dirfd_here, ".full", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	while (write(fd, page, sizeof(page)) > 0)
		;
	(void) close(fd);
	return errno == ENOSPC ? refused(&spec, ENOSPC) : 6;
}

static int without_inodes(void)
{
	struct segment_spec spec = spec_here();

	if (!mount_here("nr_inodes=1", 0)) /* the root's */
		return CANNOT;
	spec.dirfd = dirfd_here;
	return refused(&spec, ENOSPC);
}

static int in_a_read_only_tmpfs(void)
{
	struct segment_spec spec = spec_here();

	if (!mount_here("size=1m", MS_RDONLY))
		return CANNOT;
	spec.dirfd = dirfd_here;
	return refused(&spec, EROFS);
}

static int under_a_limit_of_file_size(void)
{
	const struct rlimit limit = { FILE_SIZE - 1, FILE_SIZE };
	const struct segment_spec spec = spec_here();
	struct segment s;

	/* SIGXFSZ would end this child: the host must not see one for a file of ours. */
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
		return 5;

	const struct rlimit enough = { FILE_SIZE, FILE_SIZE };
	const int rc = refused(&spec, EFBIG);

	if (rc != 0)
		return rc;
	if (setrlimit(RLIMIT_FSIZE, &enough) < 0 || segment_open(&spec, &s, reason) != 0)
		return 6;
	return unlinkat(dirfd_here, NAME, 0) == 0 ? 0 : 7;
}

static int without_descriptors(void)
{
	const struct rlimit limit = { 0, 0 };
	const struct segment_spec spec = spec_here();
	struct segment s;

	return setrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	       segment_open(&spec, &s, reason) == -EMFILE ? 0 : 1;
}

static int in_a_directory_without_write_permission(void)
{
	const struct segment_spec spec = spec_here();

	if (geteuid() == 0 && (fchown(dirfd_here, 65534, 65534) < 0 || setuid(65534) < 0))
		return CANNOT;
	return chmod(dir, 0500) == 0 ? refused(&spec, EACCES) : 5;
}

static void without_room_nothing_is_left_behind(void **state)
{
	static const struct {
		const char *name, *needs;
		int (*what)(void);
	} cases[] = {
		{ "1 MiB of tmpfs", "mount namespaces", in_a_tiny_tmpfs },
		{ "a full tmpfs", "mount namespaces", in_a_full_tmpfs },
		{ "a tmpfs without inodes", "mount namespaces", without_inodes },
		{ "a read-only tmpfs", "mount namespaces", in_a_read_only_tmpfs },
		{ "RLIMIT_FSIZE", "", under_a_limit_of_file_size },
		{ "no descriptors", "", without_descriptors },
		{ "no write permission", "", in_a_directory_without_write_permission },
	};
	const char *lacking = NULL;

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const int rc = in_child(cases[i].what);

		print_message("# %s\n", cases[i].name);
		if (rc == CANNOT)
			lacking = cases[i].needs;
		else
			assert_int_equal(rc, 0);
	}
	if (lacking != NULL)
		skip_lacking(lacking);
}

/* ---- private, gone ---- */

static void private_memory_is_shared_with_forked_children(void **state)
{
	const struct segment_spec spec = spec_here();
	struct segment s;
	int status;

	(void) state;
	assert_int_equal(segment_private(&spec, &s), 0);
	assert_false(s.shared);
	assert_int_equal(s.ino, 0);
	assert_int_equal(*(uint64_t *) s.body, LAID);
	assert_string_equal(s.header->service, "service");

	const pid_t pid = fork();

	if (pid == 0) {
		*(uint64_t *) s.body = 8;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(*(uint64_t *) s.body, 8);
	assert_int_equal(files(NULL), 0);
	unmap(&s);
}

static void a_deleted_or_replaced_file_is_gone(void **state)
{
	const struct segment_spec spec = spec_here();
	struct segment s, next;

	(void) state;
	assert_int_equal(segment_open(&spec, &s, reason), 0);
	assert_false(segment_gone(&s, dirfd_here, NAME));
	assert_int_equal(unlinkat(dirfd_here, NAME, 0), 0);
	errno = 1234;
	assert_true(segment_gone(&s, dirfd_here, NAME));
	assert_int_equal(errno, 1234);
	assert_int_equal(segment_open(&spec, &next, reason), 0);
	assert_true(segment_gone(&s, dirfd_here, NAME));
	assert_false(segment_gone(&next, dirfd_here, NAME));
	*(uint64_t *) s.body = 3; /* what is gone can still be written to */
	unmap(&s);
	unmap(&next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
		TEST(the_first_makes_it_and_the_second_finds_it),
		TEST(long_names_of_service_and_creator_are_cut),
		TEST(eight_processes_at_once_end_in_one_file),
		TEST(eight_processes_after_a_boot_end_in_one_new_file),
		TEST(a_file_of_another_boot_is_replaced),
		TEST(what_is_not_as_expected_is_refused_and_left_alone),
		TEST(a_size_within_bounds_is_the_files_own),
		TEST(another_users_file_is_refused),
		TEST(the_directory_is_made_private),
		TEST(a_doubtful_directory_is_refused),
		TEST(without_room_nothing_is_left_behind),
		TEST(private_memory_is_shared_with_forked_children),
		TEST(a_deleted_or_replaced_file_is_gone),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
