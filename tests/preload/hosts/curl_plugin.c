/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin with a libcurl of its own choice: calls URL and says which libcurl did the work. */
#include <curl/curl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int plugin_call(const char *url, int by_multi);

static size_t swallow(char *data, size_t size, size_t n, void *arg)
{
	const char **file = arg;
	Dl_info by;

	(void) data;
	if (dladdr(__builtin_return_address(0), &by) != 0)
		*file = strrchr(by.dli_fname, '/') + 1;
	return size * n;
}

static CURLcode multi(CURL *c)
{
	CURLM *m = curl_multi_init();
	CURLMsg *msg;
	CURLcode code = CURLE_FAILED_INIT;
	int running, left;

	if (curl_multi_add_handle(m, c) != CURLM_OK)
		return code;
	while (curl_multi_perform(m, &running) == CURLM_OK && running > 0)
		(void) curl_multi_poll(m, NULL, 0, 1000, NULL);
	msg = curl_multi_info_read(m, &left);
	if (msg != NULL)
		code = msg->data.result;
	(void) curl_multi_remove_handle(m, c);
	(void) curl_multi_cleanup(m);
	return code;
}

int plugin_call(const char *url, int by_multi)
{
	struct curl_slist *list = curl_slist_append(NULL, "X-One: 1");
	CURL *c = curl_easy_init();
	const char *file = "none";

	(void) curl_easy_setopt(c, CURLOPT_URL, url);
	(void) curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, swallow);
	(void) curl_easy_setopt(c, CURLOPT_HEADERDATA, &file);
	(void) curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);

	const CURLcode code = by_multi ? multi(c) : curl_easy_perform(c);

	printf("%s %d\n", file, (int) code);
	curl_easy_cleanup(c);
	curl_slist_free_all(list);
	return code == CURLE_OK ? 0 : 1;
}
