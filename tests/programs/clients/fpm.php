<?php
// SPDX-License-Identifier: Apache-2.0
// Run by PHP-FPM: says its process id and how one call to the peer in the query went.
parse_str($_SERVER['QUERY_STRING'], $query);
$context = stream_context_create(['http' => ['timeout' => $query['giveup'] / 1000]]);
$body = @file_get_contents("http://{$query['peer']}/", false, $context);
$text = $body === false ? 'error ' . error_get_last()['message'] : "ok $body";
echo getmypid(), ' ', trim($text), "\n";
