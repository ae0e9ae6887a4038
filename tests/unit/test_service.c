/* SPDX-License-Identifier: Apache-2.0 */
/* Names of services, as found on command lines. */
#include "core/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/edge.h"

#define WORDS 12

static const struct {
	const char *exe;
	const char *argv[WORDS];
	const char *name;
} rows[] = {
	/* programs of their own */
	{ "/usr/sbin/nginx", { "nginx: master process", "-g", "daemon off;" }, "nginx" },
	{ "/usr/sbin/nginx (deleted)", { "nginx" }, "nginx" },
	{ "/opt/my app/bin (deleted)", { "x" }, "bin" },
	{ " (deleted)", { "x" }, "%20%28deleted%29" },
	{ "/usr/sbin/php-fpm8.2", { "php-fpm: master process", "x.php" }, "php-fpm8.2" },
	{ "/usr/lib/cgi-bin/php-cgi8.2", { "php-cgi", "x.php" }, "php-cgi8.2" },
	{ "/usr/bin/node_exporter", { "node_exporter", "x.js" }, "node_exporter" },
	{ "/usr/bin/javac", { "javac", "X.java" }, "javac" },
	{ "/usr/bin/shutdown", { "shutdown", "now" }, "shutdown" },
	{ "/usr/bin/curl", { "curl", "http://x/" }, "curl" },
	{ "", { "/usr/bin/app", "x" }, "app" },
	{ "", { NULL }, "unknown" },
	{ "/", { NULL }, "unknown" },
	/* python */
	{ "/usr/bin/python3.11", { "python3", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11", { "python3", "/srv/x/app.py", "-m", "y" }, "app.py" },
	{ "/usr/bin/python3.11", { "python3.11", "-I", "-u", "x.py" }, "x.py" },
	{ "/usr/bin/python3.11", { "python3", "-Iu", "x.py" }, "x.py" },
	{ "/usr/bin/python3.11", { "python3", "-m", "http.server", "8000" }, "http.server" },
	{ "/usr/bin/python3.11", { "python3", "-mhttp.server" }, "http.server" },
	{ "/usr/bin/python3.11", { "python3", "-Im", "http.server" }, "http.server" },
	{ "/usr/bin/python3.11", { "python3", "-Werror", "-mx.y" }, "x.y" },
	{ "/usr/bin/python3.11", { "python3", "-c", "import x", "app.py" }, "python3.11" },
	{ "/usr/bin/python3.11", { "python3", "-uc", "import x" }, "python3.11" },
	{ "/usr/bin/python3.11", { "python3", "-W", "ignore", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11", { "python3", "-uW", "ignore", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11", { "python3", "-X", "dev", "-Xfaulthandler", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11",
	  { "python3", "--check-hash-based-pycs", "never", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11",
	  { "python3", "--check-hash-based-pycs=never", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11", { "python3", "--", "-app.py" }, "-app.py" },
	{ "/usr/bin/python3.11", { "python3", "-" }, "python3.11" },
	{ "/usr/bin/python3.11", { "python3" }, "python3.11" },
	{ "/usr/bin/python3.11", { "python3", "-W" }, "python3.11" },
	{ "/usr/bin/python3.11", { "python3", "-m" }, "python3.11" },
	{ "/usr/bin/python3.11", { "python3", "" }, "python3.11" },
	{ "/usr/bin/python3.11 (deleted)", { "python3", "app.py" }, "app.py" },
	{ "/usr/bin/python3.11", { "python3", "/srv/site/" }, "site" },
	{ "/usr/bin/python3.11", { "python3", "." }, "here" },
	/* java */
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "-jar", "/opt/x.jar", "y" }, "x.jar" },
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "-cp", "a:b", "com.x.Main" }, "com.x.Main" },
	{ "/usr/lib/jvm/java-17/bin/java",
	  { "java", "-Dx=y", "-Xmx1g", "-classpath", "a", "-XX:+UseZGC", "Main", "-jar", "z" },
	  "Main" },
	{ "/usr/lib/jvm/java-17/bin/java",
	  { "java", "-javaagent:/a.jar", "-Xmx1g", "-jar", "x.jar" }, "x.jar" },
	{ "/usr/lib/jvm/java-17/bin/java",
	  { "java", "--module-path=m", "--add-opens", "a/b=c", "-m", "app" }, "app" },
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "--module=app/x.Main" }, "app%2Fx.Main" },
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "@options", "Main" }, "Main" },
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "/srv/Hello.java" }, "Hello.java" },
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "-version" }, "java" },
	{ "/usr/lib/jvm/java-17/bin/java", { "java", "-jar" }, "java" },
	/* node */
	{ "/usr/bin/node", { "node", "--require", "a", "b.js" }, "b.js" },
	{ "/usr/bin/node", { "node", "--require=a", "b.js" }, "b.js" },
	{ "/usr/bin/node", { "node", "-r", "a", "--max-old-space-size=99", "b.js" }, "b.js" },
	{ "/usr/bin/nodejs", { "node", "--import", "a", "b.js" }, "b.js" },
	{ "/usr/bin/node", { "node", "-e", "x()" }, "node" },
	{ "/usr/bin/node", { "node", "-pe", "x()" }, "node" },
	{ "/usr/bin/node", { "node", "--eval=x()", "b.js" }, "node" },
	{ "/usr/bin/node", { "node", "." }, "here" },
	{ "/usr/bin/node", { "node", "--", "b.js" }, "b.js" },
	/* php */
	{ "/usr/bin/php8.2", { "php", "x.php" }, "x.php" },
	{ "/usr/bin/php8.2", { "php", "-d", "a=b", "-dc=d", "-n", "x.php" }, "x.php" },
	{ "/usr/bin/php8.2", { "php", "-f", "x.php", "--", "y" }, "x.php" },
	{ "/usr/bin/php8.2", { "php", "--file=x.php" }, "x.php" },
	{ "/usr/bin/php8.2", { "php", "-r", "x();", "y" }, "php8.2" },
	{ "/usr/bin/php8.2", { "php", "-S", "[::]:80", "-t", "web", "router.php" }, "router.php" },
	{ "/usr/bin/php8.2", { "php", "-S", "[::]:80" }, "php8.2" },
	{ "/usr/bin/php8.2", { "php", "--", "x" }, "php8.2" },
	/* perl, ruby */
	{ "/usr/bin/perl", { "perl", "-MLWP", "-e", "get" }, "perl" },
	{ "/usr/bin/perl", { "perl", "-lane", "print" }, "perl" },
	{ "/usr/bin/perl", { "perl", "-w", "-I", "lib", "-Ilib", "-MPOSIX", "x.pl" }, "x.pl" },
	{ "/usr/bin/perl", { "perl", "-i.e", "x.pl" }, "x.pl" },
	{ "/usr/bin/perl", { "perl", "-d:Mine", "x.pl" }, "x.pl" },
	{ "/usr/bin/perl5.36.0", { "perl", "-de1" }, "perl5.36.0" },
	{ "/usr/bin/ruby3.1", { "ruby", "-W0", "-r", "json", "-Ilib", "x.rb" }, "x.rb" },
	{ "/usr/bin/ruby3.1", { "ruby", "-ne", "x" }, "ruby3.1" },
	{ "/usr/bin/ruby3.1", { "ruby", "--disable=gems", "bin/rails", "s" }, "rails" },
	/* shells */
	{ "/usr/bin/bash", { "bash", "-c", "curl x", "name" }, "bash" },
	{ "/usr/bin/bash", { "bash", "-xec", "curl x" }, "bash" },
	{ "/usr/bin/dash", { "sh", "script" }, "script" },
	{ "/usr/bin/dash", { "sh", "-e", "/etc/init.d/script", "start" }, "script" },
	{ "/usr/bin/bash", { "bash", "-eo", "pipefail", "script.sh" }, "script.sh" },
	{ "/usr/bin/bash", { "bash", "-o", "pipefail", "+o", "errexit", "script.sh" }, "script.sh" },
	{ "/usr/bin/bash", { "bash", "--norc", "--rcfile", "f", "script.sh" }, "script.sh" },
	{ "/usr/bin/bash", { "bash", "-s", "arg" }, "bash" },
	{ "/usr/bin/bash", { "-bash" }, "bash" },
	{ "/usr/bin/bash", { "bash", "-", "script.sh" }, "script.sh" },
	{ "/usr/bin/bash", { "bash", "-eo" }, "bash" },
};

static struct service identify(const struct service_facts *facts)
{
	struct service s;

	memset(&s, 0xa5, sizeof(s));
	service_identify(facts, &s);
	return s;
}

static struct service run_in(const char *cwd, const char *exe, const char *const *argv)
{
	struct service_facts facts = { .exe = exe, .cwd = cwd, .argv = argv };

	while (argv[facts.argc])
		facts.argc++;
	return identify(&facts);
}

#define RUN(cwd, exe, ...) run_in(cwd, exe, (const char *const[]) { __VA_ARGS__, NULL })

static void the_program_that_an_interpreter_runs_is_the_service(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct service s = run_in("/srv/here", rows[i].exe, rows[i].argv);

		print_message("# %s %s\n", rows[i].exe, s.file);
		assert_string_equal(s.name, rows[i].name);
		assert_int_equal(strlen(s.file), strlen(s.name) + 13);
		assert_memory_equal(s.file, s.name, strlen(s.name));
		assert_int_equal(strspn(s.file + strlen(s.name) + 1, "0123456789abcdef"), 12);
	}
}

static void assert_same(struct service a, struct service b)
{
	assert_string_equal(a.file, b.file);
}

static void assert_apart(struct service a, struct service b)
{
	assert_string_not_equal(a.file, b.file);
}

static void one_script_is_one_service_however_it_is_written(void **state)
{
	const char *python = "/usr/bin/python3.11";
	const struct service s = RUN("/srv", python, "python3", "/srv/app/x.py");

	(void) state;
	assert_same(s, RUN("/srv/app", python, "python3", "x.py"));
	assert_same(s, RUN("/srv/app", python, "python3", "./x.py"));
	assert_same(s, RUN("/srv/app", python, "/usr/bin/python3", "-u", ".//./x.py", "arg"));
	assert_same(s, RUN("/srv/app/lib", python, "python3", "../x.py"));
	assert_same(s, RUN("/", python, "python3", "../../srv/y/../app/x.py"));
	assert_same(s, RUN("/srv/app/", "/usr/bin/python3.11 (deleted)", "python3", "x.py"));
	assert_apart(s, RUN("/srv/other", python, "python3", "x.py"));
	assert_apart(s, RUN("/srv/app", "/opt/bin/python3.11", "python3", "x.py"));
	assert_apart(s, RUN("/srv/app", python, "python3", "-m", "x.py"));
}

static void arguments_do_not_make_another_service(void **state)
{
	(void) state;
	assert_same(RUN("/a", "/usr/bin/curl", "curl", "http://x"),
		    RUN("/b", "/usr/bin/curl", "curl", "http://y"));
	assert_same(RUN("/a", "/usr/bin/python3", "python3", "-m", "http.server", "1"),
		    RUN("/b", "/usr/bin/python3", "python3", "-m", "http.server", "2"));
}

static void namespaces_set_services_apart(void **state)
{
	const struct service_facts facts = { .exe = "/usr/sbin/nginx", .netns = 1, .timens = 2 };
	struct service_facts net = facts, time = facts, swapped = facts;

	(void) state;
	net.netns = 3;
	time.timens = 3;
	swapped.netns = 2;
	swapped.timens = 1;
	assert_same(identify(&facts), identify(&facts));
	assert_apart(identify(&facts), identify(&net));
	assert_apart(identify(&facts), identify(&time));
	assert_apart(identify(&facts), identify(&swapped));
}

static void a_chosen_name_replaces_all_but_the_namespaces(void **state)
{
	const char *const argv[] = { "python3", "x.py", NULL };
	struct service_facts a = { .chosen = "pay", .otel = "o", .exe = "/usr/bin/python3",
				   .cwd = "/srv", .argc = 2, .argv = argv, .netns = 1 };
	struct service_facts b = { .chosen = "pay", .exe = "/usr/sbin/nginx", .netns = 1 };
	struct service_facts c = { .exe = "/usr/bin/pay", .netns = 1 };

	(void) state;
	assert_string_equal(identify(&a).name, "pay");
	assert_same(identify(&a), identify(&b));
	assert_apart(identify(&b), identify(&c));
	b.netns = 2;
	assert_apart(identify(&a), identify(&b));
	b.netns = 1;
	b.chosen = "pax";
	assert_apart(identify(&a), identify(&b));
}

static void opentelemetrys_name_is_shown_but_programs_stay_apart(void **state)
{
	struct service_facts a = { .chosen = "", .otel = "shop", .exe = "/usr/bin/a" };
	struct service_facts b = { .otel = "shop", .exe = "/usr/bin/b" };

	(void) state;
	assert_string_equal(identify(&a).name, "shop");
	assert_string_equal(identify(&b).name, "shop");
	assert_apart(identify(&a), identify(&b));
	a.otel = "";
	assert_string_equal(identify(&a).name, "a");
}

static void names_are_percent_encoded(void **state)
{
	static const struct {
		const char *chosen, *name;
	} names[] = {
		{ "pay-api_2.0", "pay-api_2.0" },
		{ "AZaz09", "AZaz09" },
		{ ".", "%2E" },
		{ "..", "%2E." },
		{ ".hidden", "%2Ehidden" },
		{ "../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd" },
		{ "a b", "a%20b" },
		{ "100%", "100%25" },
		{ "\x01\x1b[31m\x7f", "%01%1B%5B31m%7F" },
		{ "caf\xc3\xa9", "caf%C3%A9" },
		{ "\xff\xfe", "%FF%FE" },
		{ "a\nb", "a%0Ab" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct service_facts facts = { .chosen = edge_text(names[i].chosen) };

		assert_string_equal(identify(&facts).name, names[i].name);
	}
}

static void a_name_is_cut_to_64_bytes_and_never_within_an_escape(void **state)
{
	char chosen[200], other[200];
	struct service_facts a = { .chosen = chosen }, b = { .chosen = other };

	(void) state;
	for (size_t n = 1; n < sizeof(chosen); n++) {
		for (size_t odd = 0; odd < 3; odd++) {
			memset(chosen, ' ', n);
			memset(chosen, 'a', odd < n ? odd : n);
			chosen[n] = '\0';
			const struct service s = identify(&a);

			assert_true(strlen(s.name) <= 64);
			assert_true(strlen(s.name) == 64 || strlen(s.name) > 61 || n < 64);
			assert_int_equal((strlen(s.name) - (odd < n ? odd : n)) % 3, 0);
			assert_true(strlen(s.file) < SERVICE_FILE_SIZE);
		}
	}

	memset(chosen, 'a', 64);
	chosen[64] = '\0';
	assert_string_equal(identify(&a).name, chosen);
	memset(other, 'a', 65);
	other[65] = '\0';
	assert_string_equal(identify(&b).name, chosen);
	assert_apart(identify(&a), identify(&b));
}

static void long_paths_are_told_apart_too(void **state)
{
	static char a[4096], b[4096];
	const char *python = "/usr/bin/python3";

	(void) state;
	memset(a, 'd', sizeof(a) - 1);
	for (size_t i = 0; i < sizeof(a) - 1; i += 50)
		a[i] = '/';
	memcpy(b, a, sizeof(a));
	b[1] = 'e';
	memcpy(a + 4000, "/x.py", 6);
	memcpy(b + 4000, "/x.py", 6);
	assert_string_equal(RUN("/", python, "python3", a).name, "x.py");
	assert_apart(RUN("/", python, "python3", a), RUN("/", python, "python3", b));
	assert_apart(RUN(a, python, "python3", "x.py"), RUN(b, python, "python3", "x.py"));
	assert_string_equal(RUN("/", a, "x").name, "x.py");
}

static void missing_facts_are_no_trouble(void **state)
{
	static const char *const hole[] = { "python3", NULL, "app.py" };
	struct service_facts facts = { .argc = 0 };

	(void) state;
	assert_string_equal(identify(&facts).name, "unknown");
	facts.exe = "/usr/bin/python3";
	facts.argc = 3;
	assert_string_equal(identify(&facts).name, "python3");
	facts.argv = hole;
	assert_string_equal(identify(&facts).name, "python3");
	facts.argc = -1;
	assert_string_equal(identify(&facts).name, "python3");
	assert_string_equal(RUN(NULL, "/usr/bin/python3", "python3", "app.py").name, "app.py");
	assert_string_equal(RUN(NULL, "/usr/bin/python3", "python3", ".").name, "python3");
}

static void arguments_may_end_at_unreadable_memory(void **state)
{
	static const char *const words[] = {
		"-", "--", "-m", "-c", "--x", "--x=", "-W", "-Wx", "=", "@", "+", "+o", "-o", ".", "/",
		"..", ".java", "x.java", "-jar",
	};

	(void) state;
	for (size_t in = 0; in < 8; in++) {
		static const char *const exes[] = {
			"/b/python3", "/b/java", "/b/bash", "/b/php", "/b/perl", "/b/ruby", "/b/node",
			"/b/x",
		};

		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			(void) RUN("/srv", exes[in], "x", edge_text(words[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_program_that_an_interpreter_runs_is_the_service),
		cmocka_unit_test(one_script_is_one_service_however_it_is_written),
		cmocka_unit_test(arguments_do_not_make_another_service),
		cmocka_unit_test(namespaces_set_services_apart),
		cmocka_unit_test(a_chosen_name_replaces_all_but_the_namespaces),
		cmocka_unit_test(opentelemetrys_name_is_shown_but_programs_stay_apart),
		cmocka_unit_test(names_are_percent_encoded),
		cmocka_unit_test(a_name_is_cut_to_64_bytes_and_never_within_an_escape),
		cmocka_unit_test(long_paths_are_told_apart_too),
		cmocka_unit_test(missing_facts_are_no_trouble),
		cmocka_unit_test(arguments_may_end_at_unreadable_memory),
	};

	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
