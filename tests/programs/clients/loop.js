// SPDX-License-Identifier: Apache-2.0
// A server on node's event loop: CALLEE. GET /MODE/N calls CALLEE/MODE/N, in one of the ways
// below, and answers. Tells its port on standard output.
'use strict';
const http = require('http');
const callee = process.argv[2];
const kept = new http.Agent({ keepAlive: true, maxSockets: 8 });

function call(path, agent) {
	return new Promise((done, failed) => {
		http.get(callee + path, { agent }, (reply) => {
			reply.resume();
			reply.on('end', done);
			reply.on('error', failed);
		}).on('error', failed);
	});
}

const after = (ms) => new Promise((done) => setTimeout(done, ms));
let last = Promise.resolve();
let beats = 0;

const modes = {
	direct: (path) => call(path, false),
	kept: (path) => call(path, kept),
	fetch: (path) => fetch(callee + path).then((reply) => reply.text()),
	timer: (path) => after(7).then(() => call(path, false)),
	immediate: (path) => new Promise((done) => setImmediate(() => done(call(path, kept)))),
	fanout: (path) => Promise.all([1, 2, 3, 4].map((i) => call(`${path}/${i}`, kept))),
	chain: (path) => call(path + '/1', kept).then(() => call(path + '/2', kept)),
	slowly: (path) => call(path + '/1', kept).then(() => after(11))
		.then(() => call(path + '/2', false)),
	// Behind the request before it, whoever's that was.
	queued: (path) => (last = last.then(() => call(path, kept))),
};

const server = http.createServer((request, reply) => {
	const mode = request.url.split('/')[1];
	const answer = () => reply.end('ok\n');

	if (mode === 'forgotten') {		// answered first, called then
		answer();
		call(request.url, kept);
		after(5).then(() => call(request.url + '/late', false));
	} else if (mode === 'body') {		// called before the body has come
		call(request.url, kept).then(() => request.resume().on('end', answer));
	} else {
		modes[mode](request.url).then(answer, () => { reply.statusCode = 502; answer(); });
	}
});
server.keepAliveTimeout = 60000;
// A beat of its own, for nobody's request.
setInterval(() => call(`/beat/${beats++}`, beats % 2 ? kept : false).catch(() => {}), 5).unref();
server.listen(0, '127.0.0.1', 512, () => console.log(server.address().port));
