<?php
// SPDX-License-Identifier: Apache-2.0
// The last service of a chain: reads what it is sent and answers.
$count = strlen(file_get_contents('php://input'));
header('Content-Type: application/json');
echo "[$count]\n";
