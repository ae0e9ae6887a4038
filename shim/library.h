/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real functions of libraries that a process may have several of, or load late: libcurl
 * with OpenSSL beside libcurl with GnuTLS, each for the plugin that was linked to it. So they
 * are sought for each *calling* object, in the tables of the loaded objects: dlsym(3) may
 * allocate and lock, and RTLD_NEXT knows nothing of what was loaded with RTLD_LOCAL.
 */
#ifndef SHIM_LIBRARY_H
#define SHIM_LIBRARY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LIBRARY_FUNCTIONS 24
#define LIBRARY_CALLERS   32 /* calling objects whose answer is remembered, a kind */

typedef void library_function(void); /* cast to what it is */

/* A loaded library, as its functions. Immutable; its place is never another's. */
struct library {
	uint32_t next_free;     /* the pool's */
	uintptr_t begin, end;   /* where it lies */
	library_function *functions[LIBRARY_FUNCTIONS]; /* by number of its name; NULL: it has none */
};

/* An object that called, and the library that its calls are for. */
struct library_caller {
	_Atomic uint32_t sequence;   /* odd while being written */
	_Atomic uint32_t library;    /* 1 + number */
	_Atomic uintptr_t begin, end;
	_Atomic uint64_t generation; /* of the loader's list of objects */
};

/* What is sought: zero-filled but for the names. */
struct library_kind {
	const char *const *names; /* the first one makes an object a library of this kind */
	unsigned n;
	_Atomic uint32_t next;    /* of @callers, to be written over */
	struct library_caller callers[LIBRARY_CALLERS];
};

/*
 * library_of - the library that a call is meant for, or NULL when none is loaded
 * @caller: the return address of the hook
 *
 * The caller's own, when it has these functions itself; else what it was linked to; else (it
 * came by the name through dlsym(3), or through another library) the first that is loaded.
 * Context: any thread, not from signal handlers; takes the loader's lock as a C++ exception
 * does; no allocation; errno kept.
 */
const struct library *library_of(struct library_kind *kind, const void *caller);

/*
 * library_called - library_of(), in the hook of its @which-th function
 * @ret_ours: the call is the program's, and for us; else it goes on untouched
 *
 * NULL, counted, where that function is not to be found: the call can but fail.
 */
const struct library *library_called(struct library_kind *kind, unsigned which, const void *caller,
				     bool *ret_ours);

/* The real function behind a hook, of the hook's own type. */
#define REAL(l, which, hook) ((__typeof__(hook) *) (l)->functions[which])

/*
 * library_behind_us - the first function of that name in the objects that come after this one
 * NULL: there is none. Context: as library_of(), but also before our constructor.
 */
library_function *library_behind_us(const char *name);

/* library_calls_itself - does the call come from the library that it is meant for? */
static inline bool library_calls_itself(const struct library *l, const void *caller)
{
	return (uintptr_t) caller >= l->begin && (uintptr_t) caller < l->end;
}

#endif
