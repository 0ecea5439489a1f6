// A client on Node's http with a keep-alive agent. Argument: port. Prints one line of JSON for each request.
'use strict';
const crypto = require('crypto');
const http = require('http');

const port = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

function ask(method, path, headers, parts) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, agent, method, path, headers }, (response) => {
      const digest = crypto.createHash('sha256');
      let count = 0;
      let text = '';
      response.on('data', (data) => {
        digest.update(data);
        count += data.length;
        if (count < 200) text += data;
      });
      response.on('error', reject);
      response.on('end', () => resolve({
        method, path, status: response.statusCode, length: response.headers['content-length'] ?? null, count, text,
        complete: response.complete, reused: request.reusedSocket,
      }));
    });
    request.on('error', reject);
    if ((headers ?? {}).Expect) {
      request.on('continue', () => { for (const part of parts) request.write(part); request.end(); });
      request.flushHeaders();
      return;
    }
    for (const part of parts ?? []) request.write(part);
    request.end();
  });
}

(async () => {
  const say = (one) => console.log(JSON.stringify(one));
  const megabyte = Buffer.alloc(1 << 20, 'x');
  say(await ask('GET', '/'));
  say(await ask('HEAD', '/bytes/100'));
  say(await ask('POST', '/', { 'Content-Length': 5 }, ['hello']));
  say(await ask('PUT', '/', { 'Content-Length': 5 }, ['hello']));
  say(await ask('POST', '/', { 'Transfer-Encoding': 'chunked' }, ['hel', 'lo']));
  say(await ask('POST', '/', { 'Content-Length': 5, Expect: '100-continue' }, ['hello']));
  say(await ask('POST', '/', { 'Transfer-Encoding': 'chunked' }, Array(8).fill(megabyte)));
  say(await ask('GET', '/bytes/10000000'));
  say(await ask('GET', '/chunked/10000000'));
  for (const one of await Promise.all(Array.from({ length: 20 }, () => ask('GET', '/')))) say(one);
  agent.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
