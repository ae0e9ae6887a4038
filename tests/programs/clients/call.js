// SPDX-License-Identifier: Apache-2.0
// Calls a peer with node's http module: HOST:PORT GIVEUP_MS one|loop|kept.
// kept: as loop, over a connection that is kept.
'use strict';
const http = require('http');
const readline = require('readline');

const [peer, giveup, mode] = process.argv.slice(2);
const agent = mode === 'kept' ? new http.Agent({ keepAlive: true }) : false;

function call(done) {
	const request = http.get(`http://${peer}/`, { agent }, (reply) => {
		let body = '';
		reply.setEncoding('utf8');
		reply.on('data', (part) => { body += part; });
		reply.on('end', () => finish(true, `ok ${body.trim()}`));
		reply.on('error', (e) => finish(false, `error ${e.code}: ${e.message}`));
	});
	const timer = setTimeout(() => request.destroy(new Error('gave up')), Number(giveup));
	let finished = false;
	function finish(fine, text) {
		if (finished)
			return;
		finished = true;
		clearTimeout(timer);
		done(fine, text);
	}
	request.on('error', (e) => finish(false, `error ${e.code || 'GIVEUP'}: ${e.message}`));
}

if (mode === 'one') {
	call((fine, text) => {
		console.log(text);
		process.exitCode = fine ? 0 : 1;
	});
} else {
	readline.createInterface({ input: process.stdin }).on('line', () => {
		const began = process.hrtime.bigint();
		call((fine, text) => {
			const ms = Number(process.hrtime.bigint() - began) / 1e6;
			console.log(`${ms.toFixed(3)} ${text}`);
		});
	});
}
