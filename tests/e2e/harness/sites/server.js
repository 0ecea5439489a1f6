// The site on Node's http. Argument: port.
'use strict';
const crypto = require('crypto');
const http = require('http');

function pieces(response, left) {
  for (;;) {
    if (left <= 0) return response.end();
    const size = Math.min(left, 65536);
    left -= size;
    if (!response.write(Buffer.alloc(size, 'x'))) {
      return response.once('drain', () => pieces(response, left));
    }
  }
}

http.createServer((request, response) => {
  const [, kind, number] = request.url.split('/');
  if (request.method === 'POST' || request.method === 'PUT') {
    const digest = crypto.createHash('sha256');
    let count = 0;
    request.on('data', (data) => { digest.update(data); count += data.length; });
    request.on('end', () => response.end(`${count} ${digest.digest('hex')}\n`));
    return;
  }
  if (kind === 'bytes') response.setHeader('Content-Length', number);
  if (kind !== 'bytes' && kind !== 'chunked') {
    const name = process.env.SITE_NAME + '\n';
    response.setHeader('Content-Length', name.length);
    return response.end(name);
  }
  if (request.method === 'HEAD') return response.end();
  pieces(response, Number(number));
}).listen(Number(process.argv[2]), '127.0.0.1');
