/* SPDX-License-Identifier: Apache-2.0 */
/* Mapping the service's files, and asking its breakers. */
#include "shim/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/home.h"
#include "core/rcu.h"
#include "core/ring.h"
#include "core/roster.h"
#include "core/segment.h"
#include "core/service.h"
#include "core/text.h"
#include "shim/life.h"
#include "shim/peer.h"
#include "shim/real.h"
#include "shim/report.h"

#define MAPS         8     /* times that deleted files are followed by new ones */
#define GRAVES       4     /* worlds that wait for their readers to have left */
#define REJOIN_NS    (1 * NS_PER_S)
#define SHARE_NS     (10 * NS_PER_S) /* private memory tries again to become shared */
#define SUM_NS       (1 * NS_PER_S) /* refusals are reported in sums of this time */
#define BUILD_WAIT_NS (20 * NS_PER_MS) /* building takes some 0.3 ms, a busy disk longer */
#define GIVEN_UP_MAX 8     /* then the program is one that does not try the next address */
#define SUCCESS_GRAIN_NS (100 * NS_PER_MS)
#define NO_INCARNATION UINT32_MAX /* no slot has it: they have 24 bits */
#define PATH_SIZE    (CONFIG_PATH_SIZE + SERVICE_FILE_SIZE + 16)

/* One mapping of the service's files. Immutable once published; never unmapped. */
struct map {
	struct segment_header *header;
	struct state *state;
	struct segment segment;
	struct report_files files;
	char path[PATH_SIZE]; /* of the state file; "" in private memory */
};

/* What connect(2) looks at, replaced as a whole under RCU. */
struct world {
	uint32_t map;
	struct roster roster;
};

static struct map maps[MAPS];
static uint32_t n_maps;             /* guarded by life->building */
static struct world *world;         /* RCU */
static struct world *graves[GRAVES]; /* guarded by life->building */
static uint32_t n_graves;
static _Atomic uint64_t rejoin_at;
static _Atomic(struct metrics *) metrics; /* of the newest map */
static struct service service;      /* named once, at load */
static uint64_t timens;

/* This process's own notes on the slots of the newest map, by index. */
static struct {
	_Atomic uint64_t success_at;    /* coarse: SUCCESS_GRAIN_NS */
	_Atomic uint32_t unreached;     /* address that last failed with another behind it */
	_Atomic uint32_t given_up;      /* how often since another address was tried */
} notes[STATE_SLOTS];

static struct state_writer writer(void)
{
	return (struct state_writer) { life_pid(), life_pidns(), life_gone };
}

/* ---- building ---- */

static uint64_t inode(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void read_boot_id(uint8_t id[16])
{
	char text[HOME_BOOT_ID_SIZE];
	const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd >= 0 ? real.read(fd, text, sizeof(text)) : 0;

	home_boot_id(text, n > 0 ? (size_t) n : 0, id);
	if (fd >= 0)
		(void) real.close(fd);
}

/* Too large for a host's stack; guarded by life->building. */
static struct {
	char exe[SERVICE_PATH_SIZE], cwd[SERVICE_PATH_SIZE];
	char dir[CONFIG_PATH_SIZE], file[PATH_SIZE];
	char reasons[SEGMENT_SPANS + 1][SEGMENT_REASON_SIZE]; /* by kind; "": all is well */
} scratch;

void shared_load(void)
{
	const ssize_t n = readlink("/proc/self/exe", scratch.exe, sizeof(scratch.exe) - 1);

	scratch.exe[n > 0 ? n : 0] = '\0';
	if (getcwd(scratch.cwd, sizeof(scratch.cwd)) == NULL)
		scratch.cwd[0] = '\0';

	timens = inode("/proc/self/ns/time");

	const struct service_facts facts = {
		.chosen = settings->service,
		.otel = settings->otel_service,
		.exe = scratch.exe,
		.cwd = scratch.cwd,
		.argc = life_argc(),
		.argv = life_argv(),
		.netns = inode("/proc/self/ns/net"),
		.timens = timens,
	};

	service_identify(&facts, &service);
}

const char *shared_executable(void)
{
	return scratch.exe;
}

static void name_dir(void)
{
	struct text t = text_in(scratch.dir, sizeof(scratch.dir));

	home_dir(settings->dir, geteuid(), &t);
}

static void name_file(enum segment_kind kind)
{
	struct text t = text_in(scratch.file, sizeof(scratch.file));

	home_file(&service, kind, &t);
}

/* As all files of a map have it; guarded by life->building. */
static struct home home;

static void describe_home(void)
{
	home = (struct home) {
		.service = &service,
		.creator = scratch.exe,
		.timens = timens,
		.span_records = settings->span_records,
		.close_fd = real.close,
	};
	read_boot_id(home.boot_id);
}

static struct segment_spec spec_of(enum segment_kind kind, int dirfd)
{
	return home_spec(&home, kind, dirfd, scratch.file, clock_wall());
}

static void note_path(struct map *m)
{
	struct text t = text_in(m->path, sizeof(m->path));

	text_add(&t, scratch.dir);
	text_add(&t, "/");
	text_add(&t, scratch.file);
}

/* Maps one of the service's files; what is wrong with it is in its reason. */
static int map_file(enum segment_kind kind, int dirfd, struct segment *ret)
{
	char *const reason = scratch.reasons[kind];

	name_file(kind);

	const struct segment_spec spec = spec_of(kind, dirfd);
	const int rc = segment_open(&spec, ret, reason);

	if (rc == 0)
		reason[0] = '\0'; /* of an attempt before the one that succeeded */
	return rc;
}

/* Without rings there is less to look at; breakers work all the same. */
static void map_rings(enum segment_kind kind, int dirfd, struct rings *ret)
{
	struct segment segment;

	if (map_file(kind, dirfd, &segment) < 0 ||
	    ring_open(segment.body, segment.size - SEGMENT_BODY_OFFSET, ret))
		return;
	segment_drop(&segment);

	struct text t = text_in(scratch.reasons[kind], SEGMENT_REASON_SIZE);

	text_add(&t, scratch.file);
	text_add(&t, ": is not a file of rings of this version of agentshim");
}

static void publish_map(struct map *m)
{
	m->header = m->segment.header;
	m->state = m->segment.body;
	m->files.ids = &m->state->events;
	m->files.metrics = &m->state->metrics;
	m->files.service = service.name;
	n_maps++;
	/* Release: pairs with shared_metrics(), which may ask before there is a world. */
	atomic_store_explicit(&metrics, &m->state->metrics, memory_order_release);
	report_to(&m->files);
	for (int kind = SEGMENT_STATE; kind <= SEGMENT_SPANS; kind++) {
		if (scratch.reasons[kind][0] != '\0')
			report_text(EVENT_STATE_PRIVATE, scratch.reasons[kind]);
	}
}

/*
 * Maps the service's files into the next place of maps[]. @may_fail: leave everything as it
 * is when the state cannot be shared. Returns false when nothing came of it.
 */
static bool map_files(bool may_fail)
{
	struct map *m = &maps[n_maps];

	memset(scratch.reasons, 0, sizeof(scratch.reasons));
	m->files = (struct report_files) { .ids = NULL };
	name_dir();
	describe_home();

	const int dirfd = segment_dir(scratch.dir, geteuid(), real.close,
				      scratch.reasons[SEGMENT_STATE]);
	const int rc = dirfd < 0 ? dirfd : map_file(SEGMENT_STATE, dirfd, &m->segment);

	if (rc == 0) {
		note_path(m);
		map_rings(SEGMENT_RING, dirfd, &m->files.events);
		map_rings(SEGMENT_SPANS, dirfd, &m->files.spans);
	}
	if (dirfd >= 0)
		(void) real.close(dirfd);
	if (rc < 0) {
		const struct segment_spec spec = spec_of(SEGMENT_STATE, -1);

		if (may_fail || segment_private(&spec, &m->segment) < 0)
			return false;
		m->path[0] = '\0';
	}
	publish_map(m);
	return true;
}

/* What building takes from the host's thread meanwhile. */
struct calm {
	sigset_t signals;
	int cancellation;
};

/*
 * Cancelled in open(2), or left by a handler's siglongjmp, the builder would never let go.
 * Signals that answer an instruction go through: blocked, they would kill, and SIGSYS may
 * be a sandbox's way to open files.
 */
static void calm_begin(struct calm *ret)
{
	static const int answers[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP };
	sigset_t set;

	(void) sigfillset(&set);
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		(void) sigdelset(&set, answers[i]);
	(void) pthread_sigmask(SIG_BLOCK, &set, &ret->signals);
	(void) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ret->cancellation);
}

static void calm_end(const struct calm *c)
{
	int was;

	(void) pthread_setcancelstate(c->cancellation, &was);
	(void) pthread_sigmask(SIG_SETMASK, &c->signals, NULL);
}

static bool try_building(struct calm *ret)
{
	uint32_t no = 0;

	if (atomic_load_explicit(&life->building, memory_order_relaxed) != 0)
		return false;
	calm_begin(ret);
	if (atomic_compare_exchange_strong_explicit(&life->building, &no, 1, memory_order_acquire,
						    memory_order_relaxed))
		return true;
	calm_end(ret);
	return false;
}

static void done_building(const struct calm *c)
{
	atomic_store_explicit(&life->building, 0, memory_order_release);
	calm_end(c);
}

/* Puts @next in force. @ret_old: worlds to free once their readers have left; GRAVES places. */
static uint32_t publish(struct world *next, struct world **ret_old)
{
	struct world *old = world;
	uint32_t n = 0;

	rcu_publish(world, next);
	if (old == NULL)
		return 0;
	if (n_graves == GRAVES) {
		memcpy(ret_old, graves, sizeof(graves));
		n = n_graves;
		n_graves = 0;
	}
	graves[n_graves++] = old;
	return n;
}

static void bury(struct world **old, uint32_t n)
{
	if (n == 0)
		return;
	/* Outside of every lock and read section. Without a promise they stay: 2 MiB at most. */
	if (!rcu_wait_blocking())
		return;
	for (uint32_t i = 0; i < n; i++)
		(void) munmap(old[i], sizeof(struct world));
}

static struct world *make_world(void)
{
	struct world *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (w == MAP_FAILED)
		return NULL;
	w->map = n_maps - 1;
	return w;
}

static void report_problems(void)
{
	const uint16_t n = settings->n_problems < CONFIG_PROBLEMS_MAX ? settings->n_problems
								      : CONFIG_PROBLEMS_MAX;

	for (uint16_t i = 0; i < n; i++)
		report_text(EVENT_CONFIG_ERROR, settings->problems[i]);
}

/* The first world of this process; whoever comes second waits for it a little. */
static void begin(void)
{
	const uint64_t began = clock_now();
	struct calm calm;

	while (!try_building(&calm)) {
		if (rcu_read(world) != NULL)
			return;
		if (clock_since(began, clock_now()) > BUILD_WAIT_NS)
			return; /* this call goes unguarded */
		(void) sched_yield();
	}
	if (world == NULL && n_maps < MAPS && map_files(false)) {
		struct world *next = make_world();

		if (maps[n_maps - 1].path[0] == '\0')
			atomic_store_explicit(&rejoin_at, clock_now() + SHARE_NS,
					      memory_order_relaxed);
		if (next != NULL)
			(void) publish(next, NULL);
		report_problems();
	}
	done_building(&calm);
}

/* An empty roster in place of a full one; @full is compared, never read. */
static void renew(const struct world *full)
{
	struct world *old[GRAVES];
	struct calm calm;
	uint32_t n = 0;

	if (!try_building(&calm))
		return;
	if (world == full) {
		struct world *next = make_world();

		if (next != NULL) {
			next->map = world->map;
			n = publish(next, old);
		}
	}
	done_building(&calm);
	bury(old, n);
}

/* Slots of a new file are other peers'. */
static void forget_notes(void)
{
	for (uint32_t i = 0; i < STATE_SLOTS; i++) {
		atomic_store_explicit(&notes[i].success_at, 0, memory_order_relaxed);
		atomic_store_explicit(&notes[i].unreached, 0, memory_order_relaxed);
		atomic_store_explicit(&notes[i].given_up, 0, memory_order_relaxed);
	}
}

/* Is there a file to be joined in place of what is mapped? */
static bool to_join(const struct map *m)
{
	/* What kept the memory private may have passed, a full disk or too many open files. */
	return m->path[0] == '\0' || segment_gone(&m->segment, AT_FDCWD, m->path);
}

/* Now and then: was the state file deleted or replaced? Then join the one there is now. */
static void rejoin(uint32_t map, uint64_t now)
{
	uint64_t at = atomic_load_explicit(&rejoin_at, memory_order_relaxed);
	const struct map *m = &maps[map];
	const uint64_t pause = m->path[0] == '\0' ? SHARE_NS : REJOIN_NS;
	struct world *old[GRAVES];
	struct calm calm;
	uint32_t n = 0;

	if (now < at || !atomic_compare_exchange_strong_explicit(&rejoin_at, &at, now + pause,
								 memory_order_relaxed,
								 memory_order_relaxed))
		return;
	if (!to_join(m) || !try_building(&calm))
		return;
	if (map == n_maps - 1 && n_maps < MAPS && map_files(true)) {
		struct world *next = make_world();

		forget_notes();
		if (next != NULL)
			n = publish(next, old);
	}
	done_building(&calm);
	bury(old, n);
}

bool shared_ready(void)
{
	return rcu_read(world) != NULL;
}

bool shared_map(void)
{
	uint32_t map = 0;

	if (rcu_read(world) == NULL)
		begin();
	if (!rcu_enter())
		return shared_ready();

	const struct world *const w = rcu_read(world);

	if (w != NULL)
		map = w->map;
	rcu_leave();
	if (w == NULL)
		return false;
	rejoin(map, clock_now());
	return true;
}

struct metrics *shared_metrics(void)
{
	/* Acquire: what the state was laid out as is there. Pairs with publish_map(). */
	return atomic_load_explicit(&metrics, memory_order_acquire);
}

/* ---- asking ---- */

static uint64_t generation_of(const struct state_slot *slot)
{
	uint64_t since;

	(void) breaker_peek(&slot->breaker, &since, NULL);
	return since;
}

static void name_event(struct event *e, const struct state_slot *slot)
{
	size_t n = 0;

	/* The slot's words are the bytes of its text; ours may be shorter. */
	for (; n + 8 < sizeof(e->text) && n < STATE_PEER_SIZE; n += 8) {
		const uint64_t word =
			atomic_load_explicit(&slot->peer[n / 8], memory_order_relaxed);

		memcpy(e->text + n, &word, 8);
	}
	e->text[n < sizeof(e->text) ? n : sizeof(e->text) - 1] = '\0';
}

static void name_error(struct event *e, const struct state_slot *slot)
{
	const uint64_t error = atomic_load_explicit(&slot->last_error, memory_order_relaxed);

	e->error_kind = (uint8_t) (error >> 32);
	e->error_code = (uint32_t) error;
}

/* Tells of the refusals since the last time, by whichever processes. */
static void report_refusals(struct state_slot *slot, enum policy_mode mode,
			    enum breaker_verdict verdict, bool stack)
{
	const uint64_t total = breaker_totals(&slot->breaker).refused;
	const uint64_t told = atomic_exchange_explicit(&slot->told, total, memory_order_relaxed);
	struct event e = {
		.kind = EVENT_CALL_REJECTED,
		.mode = (uint8_t) mode,
		.verdict = (uint8_t) verdict,
		.generation = generation_of(slot),
		.n = total - told,
	};

	if (total <= told)
		return;
	name_event(&e, slot);
	report_event(&e, stack);
}

/* Tells of refusals at most once a second, but at once of an opening's first. */
static void note_refusal(struct state_slot *slot, enum policy_mode mode,
			 enum breaker_verdict verdict, uint64_t now)
{
	const uint64_t generation = generation_of(slot);
	uint64_t at = atomic_load_explicit(&slot->told_at, memory_order_relaxed);
	uint64_t traced = atomic_load_explicit(&slot->traced, memory_order_relaxed);
	/* One process of all says where in the program the opening first struck. */
	const bool first = traced != generation &&
			   atomic_compare_exchange_strong_explicit(&slot->traced, &traced,
								   generation,
								   memory_order_relaxed,
								   memory_order_relaxed);

	if (!first && clock_since(at, now) < SUM_NS)
		return;
	if (atomic_compare_exchange_strong_explicit(&slot->told_at, &at, now,
						    memory_order_relaxed, memory_order_relaxed) ||
	    first)
		report_refusals(slot, mode, verdict, first);
}

struct teller {
	struct state_slot *slot;
	const struct policy *policy;
};

static void on_change(void *arg, const struct breaker_change *change)
{
	const struct teller *t = arg;
	struct event e = {
		.kind = EVENT_STATE_CHANGE,
		.mode = (uint8_t) t->policy->mode,
		.from = (uint8_t) change->from,
		.to = (uint8_t) change->to,
		.reason = (uint8_t) change->reason,
		.generation = change->generation,
		.open_ns = change->to == BREAKER_OPEN ? t->policy->timeout_ns : 0,
		.counts = {
			(uint32_t) change->counts.requests,
			(uint32_t) change->counts.successes,
			(uint32_t) change->counts.failures,
			(uint32_t) change->counts.exclusions,
			(uint32_t) change->counts.consecutive_successes,
			(uint32_t) change->counts.consecutive_failures,
		},
	};

	if (change->from == BREAKER_OPEN) /* the rest of what it refused */
		report_refusals(t->slot, t->policy->mode, BREAKER_REFUSED_OPEN, false);
	name_event(&e, t->slot);
	if (change->to == BREAKER_OPEN)
		name_error(&e, t->slot);
	report_event(&e, change->to == BREAKER_OPEN);
}

/* What `agentshim off|observe` said goes before what the process was started with. */
static enum policy_mode mode_of(const struct map *m, enum policy_mode configured)
{
	const uint32_t control = atomic_load_explicit(&m->header->control, memory_order_relaxed);

	return control > 0 && control <= POLICY_FORCED_CLOSED + 1
		       ? (enum policy_mode) (control - 1)
		       : configured;
}

static uint32_t address_hash(const struct in6_addr *address)
{
	uint32_t words[4];

	memcpy(words, address, sizeof(words));
	return ((words[0] * 31 + words[1]) * 31 + words[2]) * 31 + words[3];
}

/* What a call needs to know of its peer once the read section is over. */
struct found {
	struct admission admission; /* all but the ticket */
	struct state_slot *slot;    /* NULL: unguarded */
	enum policy_mode mode;
	bool wanted;                /* else it is left out altogether */
	bool passes;                /* not refused because half-open's quota is spent */
	struct state_found news;    /* was the slot made just now, in whose place? */
};

/* Inside a read section: finds the peer's slot and copies its settings. */
static void look_up(struct roster_entry *e, uint32_t map, bool asks, uint64_t now,
		    struct found *ret)
{
	const struct map *m = &maps[map];
	const struct state_writer self = writer();

	ret->admission.policy = e->policy;
	ret->admission.configured = e->policy.mode;
	ret->mode = mode_of(m, e->policy.mode);
	ret->wanted = e->wanted;
	if (!e->wanted || !asks || ret->mode == POLICY_OFF || ret->mode == POLICY_FORCED_CLOSED)
		return;
	ret->slot = roster_slot(e, m->state, &self, now, &ret->admission.ref, &ret->news);
	ret->admission.map = map;
	ret->admission.policy.mode = ret->mode;
}

/*
 * The breaker has no say in a call that the roster could not be read for, or has no room for. It
 * is followed all the same: what else we do for it, its trace above all, needs no roster.
 */
static void look_away(const struct peer *peer, struct found *ret)
{
	ret->admission.policy = config_policy(settings, &peer->who, NULL);
	ret->admission.configured = ret->admission.policy.mode;
	ret->wanted = config_wants(settings, &peer->who);
}

/* The program has gone on to another address: it does not end with the first. */
static void note_address(const struct admission *a)
{
	const uint32_t index = a->ref.index & (STATE_SLOTS - 1);
	const uint32_t unreached =
		atomic_load_explicit(&notes[index].unreached, memory_order_relaxed);

	if (unreached != 0 && a->address != 0 && unreached != a->address)
		atomic_store_explicit(&notes[index].given_up, 0, memory_order_relaxed);
}

bool shared_tries_next(const struct admission *a)
{
	const uint32_t index = a->ref.index & (STATE_SLOTS - 1);

	if (!a->followed)
		return false;
	atomic_store_explicit(&notes[index].unreached, a->address, memory_order_relaxed);
	return atomic_fetch_add_explicit(&notes[index].given_up, 1, memory_order_relaxed) <
	       GIVEN_UP_MAX;
}

/* Outside of any read section: asks the breaker, and tells what came of it. */
static enum shared_verdict ask(struct found *f, const char *peer, uint64_t now,
			       struct admission *ret, int *ret_errno)
{
	const struct policy *p = &f->admission.policy;
	const struct teller teller = { f->slot, p };
	const struct breaker_watch watch = { on_change, (void *) &teller };
	enum breaker_verdict verdict = BREAKER_REFUSED_OPEN;

	if (f->news.created && f->news.evicted[0] != '\0')
		report_text(EVENT_BREAKER_RETIRED, f->news.evicted);
	if (f->news.created)
		report_text(EVENT_BREAKER_CREATED, peer);
	state_touch(f->slot, now);
	if (f->mode == POLICY_FORCED_OPEN)
		breaker_refuse(&f->slot->breaker);
	else
		verdict = breaker_admit(&f->slot->breaker, p, now, &watch, &f->admission.ticket);
	f->admission.judged = verdict == BREAKER_ADMITTED;
	*ret = f->admission;
	if (verdict == BREAKER_ADMITTED) {
		note_address(&f->admission);
		return SHARED_ADMITTED;
	}
	if (f->passes && verdict == BREAKER_REFUSED_TOO_MANY)
		return SHARED_UNJUDGED;
	note_refusal(f->slot, f->mode, verdict, now);
	if (f->mode == POLICY_OBSERVE)
		return SHARED_UNJUDGED;
	*ret_errno = p->refusal_errno;
	return SHARED_REFUSED;
}

static enum shared_verdict admit(const struct peer *peer, bool asks, uint64_t now,
				 struct admission *ret, int *ret_errno)
{
	struct found found; /* large: filled by look_up() alone */
	bool full = false;
	uint32_t map = 0;

	if (rcu_read(world) == NULL)
		begin();

	const bool entered = rcu_enter();
	struct world *w = entered ? rcu_read(world) : NULL;

	found.slot = NULL;
	found.wanted = found.passes = false;
	found.admission.judged = false;
	found.admission.map = 0;
	found.admission.ref = (struct state_ref) { 0, NO_INCARNATION };
	found.admission.ticket = (struct breaker_ticket) { 0 };
	if (w != NULL) {
		struct roster_entry *e = roster_add(&w->roster, peer->key, settings, &peer->who);

		map = w->map;
		full = e == NULL;
		if (e != NULL)
			look_up(e, map, asks, now, &found);
	}
	if (entered)
		rcu_leave();

	/* Once there is a world, there is map 0, for good. */
	if (rcu_read(world) == NULL)
		return SHARED_UNGUARDED;
	if (w == NULL || full)
		look_away(peer, &found); /* this one call goes unguarded */
	if (full)
		renew(w);
	else if (w != NULL)
		rejoin(map, now);
	found.admission.address = address_hash(&peer->who.address);
	found.admission.peer = peer_hash(peer->key);
	found.admission.followed = peer->followed;
	found.admission.private_peer = !config_egress_allows(settings, &peer->who);
	if (found.slot != NULL)
		return ask(&found, peer->key, now, ret, ret_errno);
	if (!found.wanted)
		return SHARED_UNGUARDED;
	*ret = found.admission;
	return SHARED_UNJUDGED;
}

enum shared_verdict shared_admit(const struct sockaddr *addr, uint64_t now, struct admission *ret,
				 int *ret_errno)
{
	struct peer peer;

	peer_of(addr, now, &peer);
	return admit(&peer, true, now, ret, ret_errno);
}

enum shared_verdict shared_admit_name(const char *host, uint16_t port, bool asks, uint64_t now,
				      struct admission *ret, char *ret_key)
{
	struct peer peer;
	bool known;
	int error;

	if (!peer_named(host, port, &peer, &known) || (!known && config_by_address(settings)))
		return SHARED_UNGUARDED;
	(void) strcpy(ret_key, peer.key);
	return admit(&peer, asks, now, ret, &error);
}

enum shared_verdict shared_admit_stream(const struct admission *last, bool probes, uint64_t now,
					struct admission *ret, int *ret_errno)
{
	const struct map *m = &maps[last->map];
	struct found found = { .admission = *last, .passes = probes };

	found.admission.judged = false;
	found.slot = state_slot(m->state, last->ref);
	/* What the peer was given at its connect stands, but for what `agentshim` has said since. */
	found.mode = mode_of(m, last->configured);
	if (found.slot == NULL || found.mode == POLICY_OFF || found.mode == POLICY_FORCED_CLOSED) {
		*ret = found.admission;
		return SHARED_UNJUDGED;
	}
	found.admission.policy.mode = found.mode;
	return ask(&found, "", now, ret, ret_errno);
}

enum shared_verdict shared_admit_again(const struct admission *last, uint64_t now,
				       struct admission *ret, int *ret_errno)
{
	return shared_admit_stream(last, false, now, ret, ret_errno);
}

static void settle(struct admission *a, enum breaker_outcome outcome, enum event_error kind,
		   uint32_t code, uint64_t now)
{
	struct state_slot *slot = state_slot(maps[a->map].state, a->ref);

	if (slot == NULL)
		return; /* the slot is another peer's by now */

	const uint32_t index = a->ref.index & (STATE_SLOTS - 1);

	if (outcome == BREAKER_FAILURE)
		atomic_store_explicit(&slot->last_error,
				      (uint64_t) kind << 32 | code,
				      memory_order_relaxed);
	if (outcome == BREAKER_SUCCESS &&
	    clock_since(atomic_load_explicit(&notes[index].success_at, memory_order_relaxed), now) >
		    SUCCESS_GRAIN_NS)
		atomic_store_explicit(&notes[index].success_at, now, memory_order_relaxed);

	const struct teller teller = { slot, &a->policy };
	const struct breaker_watch watch = { on_change, (void *) &teller };

	(void) breaker_settle(&slot->breaker, &a->policy, &a->ticket, outcome, now, &watch);
}

void shared_settle(struct admission *a, enum breaker_outcome outcome, int error, uint64_t now)
{
	settle(a, outcome, EVENT_ERROR_LOCAL_ORIGIN, (uint32_t) error, now);
}

/* Too many requests is no reason to stop asking, but none to think the peer well again. */
static enum breaker_outcome outcome_of(const struct admission *a, unsigned status)
{
	if (config_failure_status(settings, status))
		return BREAKER_FAILURE;
	if (status == 429)
		return breaker_ticket_state(&a->ticket) == BREAKER_HALF_OPEN ? BREAKER_FAILURE
									     : BREAKER_EXCLUDED;
	return BREAKER_SUCCESS;
}

void shared_settle_answer(struct admission *a, unsigned status, uint64_t now)
{
	settle(a, outcome_of(a, status), EVENT_ERROR_EXTERNAL, status, now);
}

/* What was called off says nothing of the peer. */
static enum breaker_outcome outcome_of_rpc(unsigned status)
{
	if (rpc_set_has(settings->failure_grpc, status))
		return BREAKER_FAILURE;
	return status == RPC_CANCELLED ? BREAKER_EXCLUDED : BREAKER_SUCCESS;
}

void shared_settle_rpc(struct admission *a, unsigned status, uint64_t now)
{
	settle(a, outcome_of_rpc(status), EVENT_ERROR_EXTERNAL, status, now);
}

bool shared_succeeded_since(const struct admission *a, uint64_t then)
{
	return atomic_load_explicit(&notes[a->ref.index & (STATE_SLOTS - 1)].success_at,
				    memory_order_relaxed) > then;
}
