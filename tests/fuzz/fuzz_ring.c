/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings that anybody wrote. The first byte decides how the rest is meant: even, as the bytes of
 * the rings from the first on; odd, as events that a process appended. Whatever they hold, what
 * is read is in order, fit to show and valid JSON, and the rings go on working.
 */
#include "core/ring.h"

#include <stdbool.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/json.h"

#define FILE_HEAD  64 /* what ring_valid() looks at */
#define EVENTS_MAX 64

static struct event events[EVENTS_MAX];

static size_t read_back(const struct rings *r)
{
	uint64_t lost;
	const size_t n = ring_read(r->file, ring_file_size(r->records), events, EVENTS_MAX, &lost);

	FUZZ_CHECK(n <= EVENTS_MAX);
	for (size_t i = 0; i < n; i++) {
		char line[EVENT_JSON_SIZE];
		struct text t = text_in(line, sizeof(line));

		FUZZ_CHECK(memchr(events[i].text, '\0', EVENT_TEXT_SIZE) != NULL);
		FUZZ_CHECK(i == 0 || events[i - 1].mono_ns <= events[i].mono_ns);
		event_json(&events[i], "service", &t);
		FUZZ_CHECK(!t.cut && json_valid(line));
	}
	return n;
}

/* Appended whole, an event is read back as it was, but for the NUL at its end. */
static void append(const struct rings *r, const uint8_t *data, size_t size)
{
	struct event e = { .mono_ns = 0 };
	uint64_t lost;

	memcpy(&e, data, size < sizeof(e) ? size : sizeof(e));
	FUZZ_CHECK(ring_write(r, e.pid, &e));
	e.text[EVENT_TEXT_SIZE - 1] = '\0';

	const size_t n = ring_read(r->file, ring_file_size(r->records), events, EVENTS_MAX, &lost);
	bool found = n == EVENTS_MAX; /* an old one may have given way to newer ones */

	for (size_t i = 0; i < n; i++)
		found |= memcmp(&events[i], &e, sizeof(e)) == 0;
	FUZZ_CHECK(found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(64) uint8_t bytes[1 << 23];
	const struct event last = { .kind = EVENT_STATE_CHANGE, .mono_ns = UINT64_MAX };
	const size_t file_size = ring_file_size(RING_RECORDS);
	struct rings r;

	FUZZ_CHECK(file_size <= sizeof(bytes));
	if (size == 0)
		return 0;
	memset(bytes, 0, file_size);
	ring_init((struct ring_file *) bytes, RING_RECORDS);
	FUZZ_CHECK(ring_open(bytes, file_size, &r));
	if (data[0] % 2 == 0) {
		const size_t room = file_size - FILE_HEAD;

		memcpy(bytes + FILE_HEAD, data + 1, size - 1 < room ? size - 1 : room);
	} else {
		for (size_t at = 1; at < size; at += sizeof(struct event))
			append(&r, data + at, size - at);
	}
	(void) read_back(&r);
	FUZZ_CHECK(ring_write(&r, 0, &last));
	FUZZ_CHECK(read_back(&r) > 0);
	return 0;
}
