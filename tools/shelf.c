/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, checking and copying the files of services. */
#include "tools/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"
#include "core/home.h"
#include "core/text.h"
#include "tools/tool.h"

#define SHM        "/dev/shm"
#define PREFIX     "agentshim-"
#define STATE_ENDS STATE_FILE("state")
#define RING_ENDS  STATE_FILE("ring")
#define SPANS_ENDS STATE_FILE("spans")

static const char magic[8] = { 'a', 'g', 'n', 't', 's', 'h', 'i', 'm' };

/* What a file must agree with to be believed. */
struct expected {
	uid_t uid;
	enum segment_kind kind;
	size_t least, most; /* of the body */
};

static struct expected expect(uid_t uid, enum segment_kind kind)
{
	switch (kind) {
	case SEGMENT_STATE:
		return (struct expected) { uid, kind, sizeof(struct state), sizeof(struct state) };
	case SEGMENT_RING:
		return (struct expected) { uid, kind, ring_file_size(RING_EVENTS),
					   ring_file_size(RING_EVENTS) };
	case SEGMENT_SPANS:
		break;
	}
	return (struct expected) { uid, kind, ring_file_size(RING_RECORDS_MIN),
				   ring_file_size(RING_RECORDS_MAX) };
}

/* What of each service somebody wants to see. */
struct wish {
	const struct shelf_filter *filter;
	bool state;
	size_t max_events;
};

static void skip(struct shelf *s, const char *dir, const char *name, const char *reason)
{
	struct shelf_skipped *const grown = take(s->n_skipped + 1, sizeof(*grown));

	if (s->n_skipped > 0)
		memcpy(grown, s->skipped, s->n_skipped * sizeof(*grown));
	free(s->skipped);
	s->skipped = grown;

	struct shelf_skipped *const new = &s->skipped[s->n_skipped++];
	struct text path = text_in(new->path, sizeof(new->path));
	struct text why = text_in(new->reason, sizeof(new->reason));

	text_add_shown(&path, dir, strlen(dir));
	text_add(&path, *name != '\0' ? "/" : "");
	text_add_shown(&path, name, strlen(name));
	text_add(&why, reason);
}

/* Names that we give are percent-encoded; any other could steer a terminal. */
static bool plain(const char *name)
{
	for (; *name != '\0'; name++) {
		if (*name <= ' ' || *name >= 0x7f) /* bytes above are negative, or big */
			return false;
	}
	return true;
}

/* What is shown of a text in a header: its bytes up to the NUL, none of which is a control. */
static void tame(char *s, size_t size)
{
	char raw[SEGMENT_CREATOR_SIZE]; /* the longer of the two */

	memcpy(raw, s, size);

	struct text t = text_in(s, size);

	text_add_shown(&t, raw, size);
}

/* Copies @size bytes from @offset; false when the file is shorter. */
static bool copy(int fd, void *to, size_t size, off_t offset)
{
	size_t got = 0;

	while (got < size) {
		const ssize_t n = pread(fd, (char *) to + got, size - got, offset + (off_t) got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		got += (size_t) n;
	}
	return true;
}

static const char *check_stat(const struct stat *st, const struct expected *want)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_uid != want->uid)
		return "belongs to another user than its directory";
	if ((st->st_mode & 022) != 0)
		return "can be written by others than its owner";
	if (st->st_size < (off_t) (SEGMENT_BODY_OFFSET + want->least) ||
	    st->st_size > (off_t) (SEGMENT_BODY_OFFSET + want->most))
		return "has another size than a file of this version";
	return NULL;
}

static const char *check_header(struct segment_header *h, const struct expected *want,
				off_t size)
{
	if (memcmp(h->magic, magic, sizeof(magic)) != 0)
		return "is not a file of agentshim";
	if (h->layout != STATE_LAYOUT || h->kind != (uint32_t) want->kind ||
	    h->size != (uint64_t) size)
		return "is not a file of this version of agentshim";
	tame(h->service, sizeof(h->service));
	tame(h->creator, sizeof(h->creator));
	return NULL;
}

/*
 * Opens a file that is as expected. @flags: O_RDONLY or O_RDWR.
 * Returns a descriptor, or -1 with @ret_reason.
 */
static int open_checked(int dirfd, const char *name, int flags, const struct expected *want,
			struct segment_header *ret_header, const char **ret_reason)
{
	struct stat st;
	/* O_NONBLOCK: a FIFO of that name must not hold us up. */
	const int fd = openat(dirfd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0) {
		*ret_reason = errno == ELOOP ? "is a symbolic link" : strerror(errno);
		return -1;
	}
	*ret_reason = fstat(fd, &st) < 0 ? strerror(errno) : check_stat(&st, want);
	if (*ret_reason == NULL)
		*ret_reason = copy(fd, ret_header, sizeof(*ret_header), 0)
				      ? check_header(ret_header, want, st.st_size)
				      : "ends too early";
	if (*ret_reason == NULL)
		return fd;
	(void) close(fd);
	return -1;
}

/* ---- this machine, to compare with what a header says of its own ---- */

void shelf_boot_id(uint8_t ret[16])
{
	char text[HOME_BOOT_ID_SIZE];
	const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : 0;

	home_boot_id(text, n > 0 ? (size_t) n : 0, ret);
	if (fd >= 0)
		(void) close(fd);
}

static bool of_this_time(const struct segment_header *h)
{
	uint8_t boot[16];
	struct stat st;

	shelf_boot_id(boot);
	return memcmp(boot, h->boot_id, sizeof(boot)) == 0 &&
	       (h->timens == 0 || stat("/proc/self/ns/time", &st) < 0 || st.st_ino == h->timens);
}

static void name_user(uid_t uid, char ret_user[SHELF_USER_SIZE])
{
	const struct passwd *const pw = getpwuid(uid);

	if (pw != NULL)
		(void) snprintf(ret_user, SHELF_USER_SIZE, "%s", pw->pw_name);
	else
		(void) snprintf(ret_user, SHELF_USER_SIZE, "%u", (unsigned) uid);
}

/* ---- one service ---- */

static void ring_name(const struct shelf_service *s, enum segment_kind kind,
		      char buf[NAME_MAX + 1])
{
	(void) snprintf(buf, NAME_MAX + 1, "%.*s%s", NAME_MAX - (int) sizeof(STATE_ENDS), s->stem,
			kind == SEGMENT_SPANS ? SPANS_ENDS : RING_ENDS);
}

/* A service without a readable ring has no events; that is no reason to hide its breakers. */
static void read_events(struct shelf *shelf, struct shelf_service *s, int dirfd, const char *dir,
			size_t max)
{
	const struct expected want = expect(s->uid, SEGMENT_RING);
	const size_t size = want.most;
	struct segment_header header;
	char name[NAME_MAX + 1];
	const char *reason;

	ring_name(s, SEGMENT_RING, name);

	const int fd = open_checked(dirfd, name, O_RDONLY, &want, &header, &reason);

	if (fd < 0) {
		skip(shelf, dir, name, reason);
		return;
	}
	void *const body = take(1, size);

	if (copy(fd, body, size, SEGMENT_BODY_OFFSET) && ring_valid(body, size)) {
		s->events = take(max, sizeof(*s->events));
		s->n_events = ring_read(body, size, s->events, max, &s->events_lost);
	} else {
		skip(shelf, dir, name, "is not a ring of this version of agentshim");
	}
	free(body);
	(void) close(fd);
}

static bool wanted(const struct shelf_service *s, const struct shelf_filter *filter)
{
	if (filter == NULL || filter->n == 0)
		return true;
	for (size_t i = 0; i < filter->n; i++) {
		if (shelf_matches(s, filter->names[i]))
			return true;
	}
	return false;
}

static void add_service(struct shelf *shelf, const struct shelf_service *s)
{
	struct shelf_service *const grown = take(shelf->n_services + 1, sizeof(*grown));

	if (shelf->n_services > 0)
		memcpy(grown, shelf->services, shelf->n_services * sizeof(*grown));
	free(shelf->services);
	shelf->services = grown;
	shelf->services[shelf->n_services++] = *s;
}

/* Copies what was wished for; false when there is less in the file than it says. */
static bool fill_service(struct shelf *shelf, struct shelf_service *s, int fd, int dirfd,
			 const char *dir, const struct wish *wish)
{
	if (wish->state) {
		s->state = take(1, sizeof(*s->state));
		if (!copy(fd, s->state, sizeof(*s->state), SEGMENT_BODY_OFFSET)) {
			free(s->state);
			return false;
		}
	}
	s->timed = of_this_time(&s->header);
	name_user(s->uid, s->user);
	if (wish->max_events > 0)
		read_events(shelf, s, dirfd, dir, wish->max_events);
	return true;
}

static void read_service(struct shelf *shelf, int dirfd, const char *dir, uid_t uid,
			 const char *file, const struct wish *wish)
{
	const struct expected want = expect(uid, SEGMENT_STATE);
	struct shelf_service s = { .uid = uid };
	const char *reason = "has a name that we never give";
	const int fd = plain(file)
			       ? open_checked(dirfd, file, O_RDONLY, &want, &s.header, &reason)
			       : -1;

	if (fd < 0) {
		skip(shelf, dir, file, reason);
		return;
	}
	(void) snprintf(s.path, sizeof(s.path), "%s/%s", dir, file);
	(void) snprintf(s.name, sizeof(s.name), "%s", s.header.service);
	(void) snprintf(s.stem, sizeof(s.stem), "%.*s",
			(int) (strlen(file) - strlen(STATE_ENDS)), file);
	if (wanted(&s, wish->filter)) {
		if (fill_service(shelf, &s, fd, dirfd, dir, wish))
			add_service(shelf, &s);
		else
			skip(shelf, dir, file, "ends too early");
	}
	(void) close(fd);
}

/* ---- directories ---- */

static bool ends_with(const char *s, const char *end)
{
	const size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

/* Opens a directory that nobody but its owner can write to. @uid: who that must be, if known. */
static int open_dir(struct shelf *shelf, const char *path, const uid_t *uid, uid_t *ret_uid)
{
	struct stat st;
	const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT)
			skip(shelf, path, "", errno == ELOOP || errno == ENOTDIR
						      ? "is no directory, or a symbolic link"
						      : strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) == 0 && (uid == NULL || st.st_uid == *uid) &&
	    (st.st_mode & 022) == 0) {
		*ret_uid = st.st_uid;
		return fd;
	}
	skip(shelf, path, "", "expected a directory of that user that nobody else can write to");
	(void) close(fd);
	return -1;
}

static void read_dir(struct shelf *shelf, const char *path, const uid_t *owner,
		     const struct wish *wish)
{
	uid_t uid;
	const int fd = open_dir(shelf, path, owner, &uid);
	DIR *const d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (d == NULL) {
		if (fd >= 0)
			(void) close(fd);
		return;
	}
	while ((entry = readdir(d)) != NULL && shelf->n_services < SHELF_SERVICES_MAX &&
	       shelf->n_skipped < SHELF_SERVICES_MAX) {
		if (ends_with(entry->d_name, STATE_ENDS))
			read_service(shelf, dirfd(d), path, uid, entry->d_name, wish);
	}
	(void) closedir(d);
}

/* Root sees everybody's: /dev/shm/agentshim-UID, each believed only if UID owns it. */
static void read_all_users(struct shelf *shelf, const struct wish *wish)
{
	DIR *const d = opendir(SHM);
	const struct dirent *entry;

	if (d == NULL)
		return;
	while ((entry = readdir(d)) != NULL) {
		char path[sizeof(SHM) + NAME_MAX + 1], *end;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;

		const char *const digits = entry->d_name + strlen(PREFIX);
		const unsigned long number = strtoul(digits, &end, 10);
		const uid_t uid = (uid_t) number;

		if (*digits < '0' || *digits > '9' || *end != '\0' || number != uid)
			continue;
		(void) snprintf(path, sizeof(path), SHM "/%s", entry->d_name);
		read_dir(shelf, path, &uid, wish);
	}
	(void) closedir(d);
}

static int by_name(const void *a, const void *b)
{
	const struct shelf_service *const x = a, *const y = b;
	const int name = strcmp(x->name, y->name);
	const int user = strcmp(x->user, y->user);

	return name != 0 ? name : user != 0 ? user : strcmp(x->path, y->path);
}

/* AGENTSHIM_DIR if the shim would take it: else both look in the same other place. */
static const char *dir_of_environment(void)
{
	static bool told;
	const char *const dir = secure_getenv("AGENTSHIM_DIR");

	if (dir == NULL || dir[strspn(dir, " \t\r\n")] == '\0')
		return NULL;
	if (*dir == '/' && strlen(dir) < CONFIG_PATH_SIZE)
		return dir;
	if (!told)
		complain("AGENTSHIM_DIR: found \"%.30s\", expected an absolute path below %d "
			 "bytes; looking where the shim does without it", dir, CONFIG_PATH_SIZE);
	told = true;
	return NULL;
}

static void read_shelf(struct shelf *ret, const char *dir, const struct wish *wish)
{
	*ret = (struct shelf) { .n_services = 0 };
	if (dir == NULL)
		dir = dir_of_environment();
	if (dir != NULL && *dir != '\0') {
		(void) snprintf(ret->looked_in, sizeof(ret->looked_in), "%s", dir);
		read_dir(ret, dir, NULL, wish);
	} else if (geteuid() == 0) {
		(void) snprintf(ret->looked_in, sizeof(ret->looked_in), SHM "/" PREFIX "*");
		read_all_users(ret, wish);
	} else {
		const uid_t uid = geteuid();

		(void) snprintf(ret->looked_in, sizeof(ret->looked_in), SHM "/" PREFIX "%u",
				(unsigned) uid);
		read_dir(ret, ret->looked_in, &uid, wish);
	}
	if (ret->n_services > 1)
		qsort(ret->services, ret->n_services, sizeof(*ret->services), by_name);
}

void shelf_read(struct shelf *ret, const char *dir, const struct shelf_filter *filter,
		size_t max_events)
{
	const struct wish wish = { filter, true, max_events };

	read_shelf(ret, dir, &wish);
}

void shelf_list(struct shelf *ret, const char *dir, const struct shelf_filter *filter)
{
	const struct wish wish = { filter, false, 0 };

	read_shelf(ret, dir, &wish);
}

void shelf_drop(struct shelf *s)
{
	for (size_t i = 0; i < s->n_services; i++) {
		free(s->services[i].state);
		free(s->services[i].events);
	}
	free(s->services);
	free(s->skipped);
	*s = (struct shelf) { .n_services = 0 };
}

bool shelf_matches(const struct shelf_service *s, const char *name)
{
	return strcmp(s->name, name) == 0 || strcmp(s->stem, name) == 0 ||
	       strcmp(s->path, name) == 0;
}

bool shelf_has_all(const struct shelf *s, const struct shelf_filter *filter)
{
	bool all = true;

	for (size_t i = 0; i < filter->n; i++) {
		size_t k = 0;

		while (k < s->n_services && !shelf_matches(&s->services[k], filter->names[i]))
			k++;
		if (k == s->n_services)
			complain("no service is called %s in %s", filter->names[i], s->looked_in);
		all &= k < s->n_services;
	}
	return all;
}

void shelf_complain(const struct shelf *s)
{
	for (size_t i = 0; i < s->n_skipped; i++)
		complain("%s: skipped: %s", s->skipped[i].path, s->skipped[i].reason);
}

/* ---- following ---- */

/* The directory of a service's files, looked at anew; -1 when it is not to be believed. */
static int open_dir_of(const struct shelf_service *s, const char **ret_file)
{
	const size_t length = strlen(s->path) - strlen(s->stem) - strlen(STATE_ENDS);
	struct shelf none = { .n_services = 0 };
	char dir[PATH_MAX];
	uid_t uid;

	(void) snprintf(dir, sizeof(dir), "%.*s", (int) length, s->path);

	const int fd = open_dir(&none, dir, &s->uid, &uid);

	shelf_drop(&none);
	*ret_file = s->path + length;
	return fd;
}

static bool copy_tap(void *arg, void *to, size_t size, size_t offset)
{
	const struct shelf_tap *const tap = arg;

	return copy(tap->fd, to, size, (off_t) (SEGMENT_BODY_OFFSET + offset));
}

int shelf_tap_open(const struct shelf_service *s, enum segment_kind kind, bool from_now,
		   struct shelf_tap *ret, const char **ret_reason)
{
	const struct expected want = expect(s->uid, kind);
	struct segment_header header;
	char name[NAME_MAX + 1];
	const char *file;
	struct stat st;
	const int dirfd = open_dir_of(s, &file);

	*ret = (struct shelf_tap) { .fd = -1 };
	*ret_reason = "its directory has changed";
	if (dirfd < 0)
		return -EINVAL;
	ring_name(s, kind, name);
	ret->fd = open_checked(dirfd, name, O_RDONLY, &want, &header, ret_reason);
	(void) close(dirfd);
	if (ret->fd < 0)
		return -EINVAL;
	*ret_reason = "is not a ring of this version of agentshim";
	if (fstat(ret->fd, &st) == 0) {
		ret->dev = st.st_dev;
		ret->ino = st.st_ino;
		ret->records = ring_follow_begin(copy_tap, ret,
						 (size_t) st.st_size - SEGMENT_BODY_OFFSET);
	}
	if (ret->records != 0 &&
	    (!from_now || ring_follow_end(copy_tap, ret, ret->records, &ret->cursor)))
		return 0;
	shelf_tap_close(ret);
	return -EINVAL;
}

size_t shelf_tap_read(struct shelf_tap *tap, struct event *events, size_t max)
{
	return ring_follow(copy_tap, tap, tap->records, &tap->cursor, events, max, &tap->lost);
}

bool shelf_tap_replaced(const struct shelf_tap *tap, const struct shelf_service *s,
			enum segment_kind kind)
{
	char name[NAME_MAX + 1], path[PATH_MAX];
	struct stat st;

	ring_name(s, kind, name);
	(void) snprintf(path, sizeof(path), "%.*s%s",
			(int) (strlen(s->path) - strlen(s->stem) - strlen(STATE_ENDS)), s->path,
			name);
	return lstat(path, &st) == 0 && (st.st_ino != tap->ino || st.st_dev != tap->dev);
}

void shelf_tap_close(struct shelf_tap *tap)
{
	if (tap->fd >= 0)
		(void) close(tap->fd);
	tap->fd = -1;
}

/* ---- writing ---- */

/* For files of which there is one size. */
static void *map_checked(int dirfd, const char *name, const struct expected *want,
			 const char **ret_reason)
{
	struct segment_header header;
	const int fd = open_checked(dirfd, name, O_RDWR, want, &header, ret_reason);

	if (fd < 0)
		return NULL;

	void *const map = mmap(NULL, SEGMENT_BODY_OFFSET + want->most, PROT_READ | PROT_WRITE,
			       MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		*ret_reason = strerror(errno);
	(void) close(fd);
	return map == MAP_FAILED ? NULL : map;
}

int shelf_map(const struct shelf_service *s, struct segment_header **ret_header,
	      struct state **ret_state, struct rings *ret_events, char *ret_reason)
{
	const struct expected state = expect(s->uid, SEGMENT_STATE);
	const struct expected ring = expect(s->uid, SEGMENT_RING);
	const char *reason = "its directory has changed", *file;
	char name[NAME_MAX + 1];
	const int dirfd = open_dir_of(s, &file);
	char *const header = dirfd >= 0 ? map_checked(dirfd, file, &state, &reason) : NULL;

	if (header == NULL) {
		(void) snprintf(ret_reason, SEGMENT_REASON_SIZE, "%.*s", SEGMENT_REASON_SIZE - 1,
				reason);
		if (dirfd >= 0)
			(void) close(dirfd);
		return -EINVAL;
	}
	ring_name(s, SEGMENT_RING, name);

	char *const records = map_checked(dirfd, name, &ring, &reason);

	(void) close(dirfd);
	*ret_header = (struct segment_header *) header;
	*ret_state = (struct state *) (header + SEGMENT_BODY_OFFSET);
	if (records == NULL ||
	    !ring_open(records + SEGMENT_BODY_OFFSET, ring.most, ret_events))
		*ret_events = (struct rings) { NULL, 0 };
	return 0;
}
