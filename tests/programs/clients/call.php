<?php
// SPDX-License-Identifier: Apache-2.0
// Calls a peer with PHP's http stream: HOST:PORT GIVEUP_MS one|loop.

function told($peer, $giveup)
{
	error_clear_last();
	$context = stream_context_create(['http' => ['timeout' => $giveup]]);
	$body = @file_get_contents("http://$peer/", false, $context);
	if ($body !== false)
		return [true, 'ok ' . trim($body)];
	return [false, 'error ' . trim(error_get_last()['message'] ?? 'no message')];
}

[, $peer, $giveup, $mode] = $argv;
$giveup /= 1000;
if ($mode === 'one') {
	[$fine, $text] = told($peer, $giveup);
	echo "$text\n";
	exit($fine ? 0 : 1);
}
while (fgets(STDIN) !== false) {
	$began = hrtime(true);
	[, $text] = told($peer, $giveup);
	printf("%.3f %s\n", (hrtime(true) - $began) / 1e6, $text);
}
