/* SPDX-License-Identifier: Apache-2.0 */
/* Making, checking and mapping the files that the processes of a service share. */
#include "core/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h> /* renameat */
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/event.h"
#include "core/text.h"

static const char magic[8] = { 'a', 'g', 'n', 't', 's', 'h', 'i', 'm' };

#define TEMPORARY_SIZE 128
#define ATTEMPTS_MAX   4 /* each lost race means that another process made the file */

_Static_assert(sizeof(struct segment_header) <= SEGMENT_BODY_OFFSET, "one page of header");

/* Writes "WHERE: WHAT" and gives the negative errno to return. */
static int doubt(char *ret_reason, const char *where, const char *what, int error)
{
	struct text t = text_in(ret_reason, SEGMENT_REASON_SIZE);

	text_add(&t, where);
	text_add(&t, ": ");
	text_add(&t, what);
	if (error != 0) {
		const char *name = event_errno_name(error);

		text_add(&t, " (");
		text_add(&t, name != NULL ? name : "unknown error");
		text_add(&t, ")");
	}
	return error != 0 ? -error : -EINVAL;
}

int segment_dir(const char *path, uid_t uid, int (*close_fd)(int fd), char *ret_reason)
{
	struct stat st;

	if (path[0] != '/')
		return doubt(ret_reason, path, "expected an absolute path", 0);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return doubt(ret_reason, path, "cannot make the directory", errno);

	const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return doubt(ret_reason, path, "expected a directory that is no link", errno);
	if (fstat(fd, &st) < 0 || st.st_uid != uid || (st.st_mode & 022) != 0) {
		(void) close_fd(fd);
		return doubt(ret_reason, path,
			     "expected a directory of the effective user that nobody else "
			     "can write to", 0);
	}
	return fd;
}

static bool space_allowed(size_t size)
{
	struct rlimit limit;

	/* Growing a file past this limit is SIGXFSZ to the host, not an error to us. */
	return getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	       (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= size);
}

static void head(const struct segment_spec *spec, struct segment_header *h)
{
	memcpy(h->magic, magic, sizeof(magic));
	h->layout = spec->layout;
	h->kind = spec->kind;
	h->size = SEGMENT_BODY_OFFSET + spec->body_size;
	memcpy(h->boot_id, spec->boot_id, sizeof(h->boot_id));
	h->timens = spec->timens;
	h->created_wall_ns = spec->now_wall_ns;
	h->creator_pid = (uint32_t) getpid();

	struct text service = text_in(h->service, sizeof(h->service));
	struct text creator = text_in(h->creator, sizeof(h->creator));

	text_add(&service, spec->service);
	text_add(&creator, spec->creator);
}

static void adopt(void *map, size_t size, const struct stat *st, struct segment *ret)
{
	*ret = (struct segment) {
		.header = map,
		.body = (char *) map + SEGMENT_BODY_OFFSET,
		.size = size,
		.dev = st != NULL ? st->st_dev : 0,
		.ino = st != NULL ? st->st_ino : 0,
		.shared = st != NULL,
	};
}

static void *map_file(int fd, size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* Reserves, maps and fills the still nameless file. */
static int lay_out(const struct segment_spec *spec, int fd, struct segment *ret, char *ret_reason)
{
	const size_t size = SEGMENT_BODY_OFFSET + spec->body_size;
	struct stat st;

	if (!space_allowed(size))
		return doubt(ret_reason, spec->name, "RLIMIT_FSIZE is too small for it", EFBIG);

	const int error = posix_fallocate(fd, 0, (off_t) size);

	if (error != 0)
		return doubt(ret_reason, spec->name, "cannot reserve space for it", error);
	if (fstat(fd, &st) < 0)
		return doubt(ret_reason, spec->name, "cannot examine it", errno);

	void *map = map_file(fd, size);

	if (map == MAP_FAILED)
		return doubt(ret_reason, spec->name, "cannot map it", errno);
	adopt(map, size, &st, ret);
	spec->init(ret->body, spec->arg);
	head(spec, ret->header);
	return 0;
}

static void temporary_name(const struct segment_spec *spec, char *buf)
{
	struct text t = text_in(buf, TEMPORARY_SIZE);
	uint64_t random = 0;

	(void) getrandom(&random, sizeof(random), GRND_NONBLOCK);
	text_add_n(&t, spec->name, strnlen(spec->name, TEMPORARY_SIZE - 32));
	text_add(&t, ".new.");
	text_add_hex(&t, random ^ (uint64_t) getpid() << 40, 16);
}

/*
 * Makes the file under another name and then gives it its own in one step, so that nobody
 * ever sees half of it. @replace: rename over a file of an earlier boot.
 * Returns 1 when another process was faster.
 */
static int create(const struct segment_spec *spec, bool replace, struct segment *ret, char *ret_reason)
{
	char temporary[TEMPORARY_SIZE];
	struct segment made;

	temporary_name(spec, temporary);

	const int fd = openat(spec->dirfd, temporary,
			      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return doubt(ret_reason, spec->name, "cannot make it", errno);

	int rc = lay_out(spec, fd, &made, ret_reason);

	(void) spec->close_fd(fd);
	if (rc == 0) {
		const int named = replace
			? renameat(spec->dirfd, temporary, spec->dirfd, spec->name)
			: linkat(spec->dirfd, temporary, spec->dirfd, spec->name, 0);

		if (named == 0)
			*ret = made;
		else if (errno == EEXIST)
			rc = 1;
		else
			rc = doubt(ret_reason, spec->name, "cannot name it", errno);
		if (named != 0)
			(void) munmap(made.header, made.size);
	}
	/* After a rename there is nothing under that name, which is as good. */
	(void) unlinkat(spec->dirfd, temporary, 0);
	return rc;
}

static bool fits(const struct segment_spec *spec, off_t size)
{
	const size_t least = spec->body_min != 0 ? spec->body_min : spec->body_size;
	const size_t most = spec->body_max != 0 ? spec->body_max : spec->body_size;

	return size >= (off_t) (SEGMENT_BODY_OFFSET + least) &&
	       size <= (off_t) (SEGMENT_BODY_OFFSET + most);
}

static bool known(const struct segment_spec *spec, const struct segment_header *h, off_t size)
{
	return memcmp(h->magic, magic, sizeof(magic)) == 0 && h->layout == spec->layout &&
	       h->kind == (uint32_t) spec->kind && h->size == (uint64_t) size;
}

static bool unknown(const uint8_t boot_id[16])
{
	static const uint8_t zeros[16];

	return memcmp(boot_id, zeros, sizeof(zeros)) == 0;
}

/*
 * Looks at a file that is already there. Returns 0 when it may be mapped, 1 when it is ours
 * but of an earlier boot, or a negative errno.
 */
static int examine(const struct segment_spec *spec, int fd, struct stat *ret_st, char *ret_reason)
{
	struct segment_header h;

	if (fstat(fd, ret_st) < 0)
		return doubt(ret_reason, spec->name, "cannot examine it", errno);
	if (!S_ISREG(ret_st->st_mode) || ret_st->st_uid != geteuid() ||
	    (ret_st->st_mode & 022) != 0)
		return doubt(ret_reason, spec->name,
			     "expected a regular file of the effective user that nobody else "
			     "can write to", 0);
	if (!fits(spec, ret_st->st_size) ||
	    pread(fd, &h, sizeof(h), 0) != (ssize_t) sizeof(h) ||
	    !known(spec, &h, ret_st->st_size))
		return doubt(ret_reason, spec->name,
			     "is not a file of this version of agentshim", 0);
	if (memcmp(h.boot_id, spec->boot_id, sizeof(h.boot_id)) != 0) {
		/* Without /proc (a chroot) we cannot tell a file in use from an old one. */
		if (unknown(spec->boot_id) || unknown(h.boot_id))
			return doubt(ret_reason, spec->name, "which boot it is of is unknown", 0);
		return 1;
	}
	if (h.timens != spec->timens)
		return doubt(ret_reason, spec->name, "belongs to another time namespace", 0);
	return 0;
}

/* Opens the file that has the name. Returns as examine(), or 2 when there is none. */
static int join(const struct segment_spec *spec, struct segment *ret, char *ret_reason)
{
	struct stat st;
	/* O_NONBLOCK: a FIFO put there must not hold the host up. */
	const int fd = openat(spec->dirfd, spec->name,
			      O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return 2;
	if (fd < 0)
		return doubt(ret_reason, spec->name, "cannot open it", errno);

	int rc = examine(spec, fd, &st, ret_reason);

	if (rc == 0) {
		void *map = map_file(fd, (size_t) st.st_size);

		if (map != MAP_FAILED)
			adopt(map, (size_t) st.st_size, &st, ret);
		else
			rc = doubt(ret_reason, spec->name, "cannot map it", errno);
	}
	(void) spec->close_fd(fd);
	return rc;
}

int segment_open(const struct segment_spec *spec, struct segment *ret, char *ret_reason)
{
	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		int rc = join(spec, ret, ret_reason);

		if (rc > 0)
			rc = create(spec, rc == 1, ret, ret_reason);
		if (rc <= 0)
			return rc;
	}
	return doubt(ret_reason, spec->name, "keeps being made and deleted", EBUSY);
}

int segment_private(const struct segment_spec *spec, struct segment *ret)
{
	const size_t size = SEGMENT_BODY_OFFSET + spec->body_size;
	/* Shared and anonymous: forked workers see the same breakers. */
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED) {
		*ret = (struct segment) { 0 };
		return -errno;
	}
	adopt(map, size, NULL, ret);
	spec->init(ret->body, spec->arg);
	head(spec, ret->header);
	return 0;
}

void segment_drop(struct segment *s)
{
	if (s->header != NULL)
		(void) munmap(s->header, s->size);
	*s = (struct segment) { 0 };
}

bool segment_gone(const struct segment *s, int dirfd, const char *name)
{
	const int saved = errno;
	struct stat st;
	/* Who may no longer look, having dropped privileges, keeps what was mapped before. */
	const bool gone = fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0
				  ? errno == ENOENT
				  : st.st_ino != s->ino || st.st_dev != s->dev;

	errno = saved;
	return gone;
}
