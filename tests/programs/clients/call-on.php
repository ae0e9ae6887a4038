<?php
// SPDX-License-Identifier: Apache-2.0
// Calls CALLEE (environment) with the path that it was asked for, and answers with what that said.
echo file_get_contents(getenv('CALLEE') . $_SERVER['REQUEST_URI']);
