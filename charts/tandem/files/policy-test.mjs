// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// `helm test`: a pod under a policy of names asks for one that is allowed and one that is not, and tries an address that no name gave.
// Environment: ALLOWED, DENIED names; ADDRESS as HOST:PORT that is not allowed; optionally REACHED as NAME:PORT that is.

import { Resolver } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const { ALLOWED = '', DENIED = '', ADDRESS = '', REACHED = '' } = process.env;
const resolver = new Resolver({ timeout: 2000, tries: 2 });
const connectMs = 3000;
const settleMs = 30_000;

/** Addresses of IPv4, or of IPv6 if the name has no others, as in a cluster of IPv6 alone; or the code of the error. */
const lookup = async (name) => {
  let code = '';
  for (const family of ['resolve4', 'resolve6']) {
    try {
      return (await resolver[family](name)).join(', ');
    } catch (error) {
      code = error.code;
    }
    if (code !== 'ENODATA') break;
  }
  return code;
};

const dial = async (host, port) => {
  const socket = connect({ host, port: Number(port) });
  const outcome = new Promise((resolve) => {
    socket.once('connect', () => resolve('connected'));
    socket.once('error', (error) => resolve(error.code));
  });
  const result = await Promise.race([outcome, delay(connectMs, 'no answer')]);
  socket.destroy();
  return result;
};

const hostAndPort = (text) => {
  const at = text.lastIndexOf(':');
  return [text.slice(0, at).replace(/^\[|\]$/g, ''), text.slice(at + 1)];
};

let failed = 0;
// The policy is as old as this pod: it is given time to arrive.
const deadline = Date.now() + settleMs;
const check = async (what, ask, isRight) => {
  let seen = await ask();
  while (!isRight(seen) && Date.now() < deadline) {
    await delay(500);
    seen = await ask();
  }
  if (!isRight(seen)) failed += 1;
  console.log(`${isRight(seen) ? 'ok     ' : 'FAILED '} ${what}: ${seen}`);
};

await check(
  `${DENIED}, which the policy does not allow, is refused`,
  () => lookup(DENIED),
  (seen) => seen === 'EREFUSED',
);
await check(
  `${ALLOWED}, which it allows, has an address`,
  () => lookup(ALLOWED),
  (seen) => isIP(seen.split(', ')[0]) !== 0,
);
await check(
  `${ADDRESS}, which no name gave, is not reached`,
  () => dial(...hostAndPort(ADDRESS)),
  (seen) => seen === 'no answer',
);
if (REACHED !== '') {
  const [name, port] = hostAndPort(REACHED);
  const reach = async () => {
    const [address] = (await lookup(name)).split(', ');
    return dial(address, port);
  };
  await check(
    `${REACHED}, which it allows by name, is reached`,
    reach,
    (seen) => seen === 'connected',
  );
}
process.exitCode = failed === 0 ? 0 : 1;
