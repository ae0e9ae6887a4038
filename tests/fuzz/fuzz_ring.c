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

static size_t read_back(const struct ring_file *f)
{
	uint64_t lost;
	const size_t n = ring_read(f, ring_file_size(), events, EVENTS_MAX, &lost);

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
static void append(struct ring_file *f, const uint8_t *data, size_t size)
{
	struct event e = { .mono_ns = 0 };
	uint64_t lost;

	memcpy(&e, data, size < sizeof(e) ? size : sizeof(e));
	FUZZ_CHECK(ring_write(f, e.pid, &e));
	e.text[EVENT_TEXT_SIZE - 1] = '\0';

	const size_t n = ring_read(f, ring_file_size(), events, EVENTS_MAX, &lost);
	bool found = n == EVENTS_MAX; /* an old one may have given way to newer ones */

	for (size_t i = 0; i < n; i++)
		found |= memcmp(&events[i], &e, sizeof(e)) == 0;
	FUZZ_CHECK(found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(64) uint8_t bytes[1 << 23];
	struct ring_file *const f = (struct ring_file *) bytes;
	const struct event last = { .kind = EVENT_STATE_CHANGE, .mono_ns = UINT64_MAX };

	FUZZ_CHECK(ring_file_size() <= sizeof(bytes));
	if (size == 0)
		return 0;
	memset(bytes, 0, ring_file_size());
	ring_init(f);
	if (data[0] % 2 == 0) {
		const size_t room = ring_file_size() - FILE_HEAD;

		memcpy(bytes + FILE_HEAD, data + 1, size - 1 < room ? size - 1 : room);
	} else {
		for (size_t at = 1; at < size; at += sizeof(struct event))
			append(f, data + at, size - at);
	}
	(void) read_back(f);
	FUZZ_CHECK(ring_write(f, 0, &last));
	FUZZ_CHECK(read_back(f) > 0);
	return 0;
}
