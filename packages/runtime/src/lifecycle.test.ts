// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { type Component, exitCodes, Lifecycle } from './lifecycle.ts';
import { silentLogger } from './log.ts';
import { TandemError } from './tandem-error.ts';

function recorder(): {
  readonly calls: string[];
  part(name: string, on?: Partial<Component>): Component;
} {
  const calls: string[] = [];
  return {
    calls,
    part: (name, on = {}) => ({
      name,
      start: (signal) => {
        calls.push(`start ${name}`);
        return on.start?.(signal);
      },
      stop: () => {
        calls.push(`stop ${name}`);
        return on.stop?.();
      },
    }),
  };
}

const never = (): Promise<void> => new Promise(() => {});

test('starts in order, stops in reverse, once', async () => {
  const { calls, part } = recorder();
  const lifecycle = new Lifecycle({ log: silentLogger() });
  for (const name of ['a', 'b', 'c']) lifecycle.add(part(name));
  await lifecycle.start();
  assert.equal(lifecycle.state, 'running');
  const [first, second] = await Promise.all([lifecycle.stop('one'), lifecycle.stop('two')]);
  assert.deepEqual([first, second], [0, 0]);
  assert.deepEqual(calls, ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a']);
  assert.equal(lifecycle.state, 'stopped');
});

test('a failed start stops what was begun, itself included, and names the component', async () => {
  const { calls, part } = recorder();
  const lifecycle = new Lifecycle({ log: silentLogger() });
  lifecycle.add(part('a'));
  lifecycle.add(part('b', { start: () => Promise.reject(new Error('no port')) }));
  lifecycle.add(part('c'));
  await assert.rejects(lifecycle.start(), /start b: no port/);
  assert.deepEqual(calls, ['start a', 'start b', 'stop b', 'stop a']);
});

test('a start that takes too long fails', async () => {
  const { calls, part } = recorder();
  const lifecycle = new Lifecycle({ log: silentLogger(), startTimeoutMs: 10 });
  lifecycle.add(part('slow', { start: never }));
  await assert.rejects(
    lifecycle.start(),
    (error) => error instanceof TandemError && error.code === 'TANDEM_START_TIMEOUT',
  );
  assert.deepEqual(calls, ['start slow', 'stop slow']);
});

test('a stop that hangs or throws does not keep the others', async () => {
  const { calls, part } = recorder();
  const lifecycle = new Lifecycle({ log: silentLogger(), stopTimeoutMs: 10 });
  lifecycle.add(part('a'));
  lifecycle.add(part('hung', { stop: never }));
  lifecycle.add(
    part('bad', {
      stop: () => {
        throw new Error('thrown');
      },
    }),
  );
  await lifecycle.start();
  assert.equal(await lifecycle.stop('test'), 2);
  assert.deepEqual(calls.slice(3), ['stop bad', 'stop hung', 'stop a']);
});

test('a stop during the start aborts it, and no further component is started', async () => {
  const { calls, part } = recorder();
  const lifecycle = new Lifecycle({ log: silentLogger() });
  lifecycle.add(
    part('waits', {
      start: async (signal) => {
        await once(signal, 'abort');
      },
    }),
  );
  lifecycle.add(part('later'));
  const started = lifecycle.start();
  await lifecycle.stop('signal');
  await started;
  assert.deepEqual(calls, ['start waits', 'stop waits']);
});

test('a stop does not wait for a start that never ends', async () => {
  const { calls, part } = recorder();
  const lifecycle = new Lifecycle({ log: silentLogger() });
  lifecycle.add(part('slow', { start: never }));
  const started = lifecycle.start();
  assert.equal(await lifecycle.stop('signal'), 0);
  await started;
  assert.deepEqual(calls, ['start slow', 'stop slow']);
});

/** Runs a lifecycle in a child process; `body` has `lifecycle` and `part(name, on)`. */
async function runChild(
  body: string,
  onReady: (kill: (signal: NodeJS.Signals) => void) => void,
): Promise<{ code: number | null; output: string }> {
  const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href);
  const script = `
    const { Lifecycle } = await import(${url('./lifecycle.ts')});
    const { createLogger } = await import(${url('./log.ts')});
    const lifecycle = new Lifecycle({ log: createLogger({ program: 'child', format: 'text' }) });
    const keepAlive = setInterval(() => {}, 1000);
    ${body}
    lifecycle.add({ name: 'ready', start: () => console.log('ready'), stop: () => clearInterval(keepAlive) });
    process.exitCode = await lifecycle.run();`;
  const child = spawn(
    process.execPath,
    ['--conditions=@tandem/source', '--input-type=module', '-e', script],
    { timeout: 20_000, killSignal: 'SIGKILL' },
  );
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stdout.once('data', () => onReady((signal) => child.kill(signal)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

test('a process: SIGTERM stops it in order', async () => {
  const { code, output } = await runChild('', (kill) => kill('SIGTERM'));
  assert.equal(code, exitCodes.ok, output);
  assert.match(output, /stopping reason="signal SIGTERM"/);
});

test('a process: a second signal ends a stop that hangs', async () => {
  const body = `lifecycle.add({ name: 'hung', start() {}, stop: () => {
    console.error('hanging'); process.kill(process.pid, 'SIGINT'); return new Promise(() => {}); } });`;
  const { code, output } = await runChild(body, (kill) => kill('SIGTERM'));
  assert.equal(code, exitCodes.killed, output);
});

test('a process: an uncaught exception ends it at once, without stopping', async () => {
  const body = `lifecycle.add({ name: 'bug', stop: () => console.error('stop was called'),
    start: () => { setImmediate(() => { throw new Error('broken invariant'); }); } });`;
  const { code, output } = await runChild(body, () => {});
  assert.equal(code, exitCodes.bug, output);
  assert.match(output, /broken invariant/);
  assert.doesNotMatch(output, /stop was called/);
});

test('a process: a start that fails exits with its code', async () => {
  const body = `lifecycle.add({ name: 'bad', stop() {}, start: () => Promise.reject(new Error('no')) });
    lifecycle.add({ name: 'x', start() {}, stop() {} }); clearInterval(keepAlive);`;
  const { code, output } = await runChild(body, () => {});
  assert.equal(code, exitCodes.startFailed, output);
  assert.match(output, /start bad: no/);
});
