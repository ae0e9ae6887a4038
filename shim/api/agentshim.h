/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs that want to name spans of their own, or write trace ids into their logs. There
 * is nothing to link: the names are looked for when the program is loaded, and where
 * libagentshim.so is not preloaded each call does nothing.
 */
#ifndef AGENTSHIM_H
#define AGENTSHIM_H

#define AGENTSHIM_TRACEPARENT_SIZE 56 /* 55 characters and a NUL */

/*
 * Every reference is weak, and goes through the global offset table: only so does a program
 * that is no position-independent executable leave the answer to the loader.
 */
#if defined(__x86_64__)
#define AGENTSHIM_FIND(name, to) __asm__("movq " #name "@GOTPCREL(%%rip), %0" : "=r"(to))
#elif defined(__aarch64__)
#define AGENTSHIM_FIND(name, to)                                                                   \
	__asm__("adrp %0, :got:" #name "\n\tldr %0, [%0, :got_lo12:" #name "]" : "=r"(to))
#else
#define AGENTSHIM_FIND(name, to) ((to) = 0)
#endif

__asm__(".weak agentshim_traceparent\n"
	".weak agentshim_span_begin\n"
	".weak agentshim_span_tag\n"
	".weak agentshim_span_end");

#ifdef __cplusplus
extern "C" {
#endif

/* Else a compiler that keeps one of these functions would define the very name it looks for. */
static inline int agentshim_traceparent(char out[AGENTSHIM_TRACEPARENT_SIZE])
	__asm__("agentshim_here_traceparent");
static inline void agentshim_span_begin(const char *name) __asm__("agentshim_here_span_begin");
static inline void agentshim_span_tag(const char *key, const char *value)
	__asm__("agentshim_here_span_tag");
static inline void agentshim_span_end(void) __asm__("agentshim_here_span_end");

/*
 * agentshim_traceparent - where in a trace this thread is: "00-TRACE-SPAN-FLAGS"
 * @out: the value, or "" when the thread works on nothing that is traced
 * Returns 1 when there is one, else 0. Safe in signal handlers.
 */
static inline int agentshim_traceparent(char out[AGENTSHIM_TRACEPARENT_SIZE])
{
	int (*found)(char *);

	AGENTSHIM_FIND(agentshim_traceparent, found);
	if (found)
		return found(out);
	out[0] = '\0';
	return 0;
}

/*
 * agentshim_span_begin - begin a span within the one that the thread is in
 * Calls that the thread makes are its children, until the same thread has said
 * agentshim_span_end(). What it never ends is told as "abandoned" when the process exits, and
 * not at all when that is by _exit, exec or a signal.
 * In an event loop end it before going back there: between an `await` and the next other
 * tasks run, whose calls are none of this span's.
 * @name: of the operation; copied, and cut to some 150 bytes
 */
static inline void agentshim_span_begin(const char *name)
{
	void (*found)(const char *);

	AGENTSHIM_FIND(agentshim_span_begin, found);
	if (found)
		found(name);
}

/*
 * agentshim_span_tag - an attribute of the innermost span that the thread has begun
 * A key that comes again replaces its value. A span has room for some 1000 bytes of them, a
 * pair for 150; what does not fit is cut or left out.
 */
static inline void agentshim_span_tag(const char *key, const char *value)
{
	void (*found)(const char *, const char *);

	AGENTSHIM_FIND(agentshim_span_tag, found);
	if (found)
		found(key, value);
}

/* agentshim_span_end - end the innermost span that this thread has begun, if there is one */
static inline void agentshim_span_end(void)
{
	void (*found)(void);

	AGENTSHIM_FIND(agentshim_span_end, found);
	if (found)
		found();
}

#ifdef __cplusplus
}
#endif

#undef AGENTSHIM_FIND

#endif
