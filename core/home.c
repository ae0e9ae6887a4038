/* SPDX-License-Identifier: Apache-2.0 */
/* Three files a service, and the sizes of each. */
#include "core/home.h"

#include <string.h>

#include "core/ring.h"
#include "core/state.h"

static const char *const ends[] = {
	[SEGMENT_STATE] = STATE_FILE("state"),
	[SEGMENT_RING] = STATE_FILE("ring"),
	[SEGMENT_SPANS] = STATE_FILE("spans"),
};

void home_dir(const char *chosen, uid_t uid, struct text *out)
{
	if (*chosen != '\0') {
		text_add(out, chosen);
		return;
	}
	text_add(out, "/dev/shm/agentshim-");
	text_add_u64(out, uid);
}

void home_file(const struct service *s, enum segment_kind kind, struct text *out)
{
	text_add(out, s->file);
	text_add(out, ends[kind]);
}

static int digit_of(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void home_boot_id(const char *text, size_t len, uint8_t ret[16])
{
	size_t n = 0;

	memset(ret, 0, 16);
	for (size_t i = 0; i < len && i < HOME_BOOT_ID_SIZE && n < 32; i++) {
		const int digit = digit_of(text[i]);

		if (digit < 0)
			continue;
		ret[n / 2] = (uint8_t) (ret[n / 2] << 4 | digit);
		n++;
	}
	if (n < 32)
		memset(ret, 0, 16);
}

static void init_state(void *body, void *arg)
{
	(void) body; /* zeros are an empty table */
	(void) arg;
}

static void init_ring(void *body, void *arg)
{
	ring_init(body, *(const uint32_t *) arg);
}

struct segment_spec home_spec(const struct home *h, enum segment_kind kind, int dirfd,
			      const char *file, uint64_t now_wall_ns)
{
	static const uint32_t events = RING_EVENTS;
	const uint32_t *const records = kind == SEGMENT_SPANS ? &h->span_records : &events;
	struct segment_spec spec = {
		.dirfd = dirfd,
		.name = file,
		.kind = kind,
		.layout = STATE_LAYOUT,
		.body_size = kind == SEGMENT_STATE ? sizeof(struct state)
						   : ring_file_size(*records),
		.service = h->service->name,
		.creator = h->creator,
		.timens = h->timens,
		.now_wall_ns = now_wall_ns,
		.init = kind == SEGMENT_STATE ? init_state : init_ring,
		.arg = (void *) records,
		.close_fd = h->close_fd,
	};

	if (kind == SEGMENT_SPANS) { /* whoever made the file chose */
		spec.body_min = ring_file_size(RING_RECORDS_MIN);
		spec.body_max = ring_file_size(RING_RECORDS_MAX);
	}
	memcpy(spec.boot_id, h->boot_id, sizeof(spec.boot_id));
	return spec;
}
