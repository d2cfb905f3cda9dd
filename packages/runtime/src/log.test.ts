// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { createLogger, type LogFormat, type Logger, logLinesPerSecondMax } from './log.ts';
import { escapeLogText, logTextCharsMax } from './log-escape.ts';
import { repeatKeysMax, repeatWindowMs } from './log-repeats.ts';
import { TandemError } from './tandem-error.ts';

interface Capture {
  readonly log: Logger;
  readonly lines: () => string[];
  nowMs: number;
}

function capture(format: LogFormat): Capture {
  const destination = new PassThrough();
  let text = '';
  destination.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const state: Capture = {
    nowMs: 1_700_000_000_000,
    log: createLogger({
      format,
      program: 'test',
      level: 'info',
      destination,
      nowMs: () => state.nowMs,
    }),
    lines: () => text.split('\n').slice(0, -1),
  };
  return state;
}

/** Escape sequence, line break, C1 CSI, right-to-left override, line separator. */
const attack = '\u001b[31mred\nsecond line\u009b2J\u202etxt\u2028x';

test('a JSON line has time, level, program, message and fields', () => {
  const { log, lines } = capture('json');
  log
    .child({ component: 'sync' })
    .info('connected', { peer: 'dns-proxy', count: 3, none: undefined });
  assert.deepEqual(JSON.parse(lines()[0] ?? ''), {
    time: '2023-11-14T22:13:20.000Z',
    level: 'info',
    program: 'test',
    message: 'connected',
    component: 'sync',
    peer: 'dns-proxy',
    count: 3,
  });
});

test('a text line quotes what needs it', () => {
  const { log, lines } = capture('text');
  log.warn('map nearly full', { map: 'fqdn', fill: 0.9, note: 'two words' });
  assert.equal(
    lines()[0],
    '2023-11-14T22:13:20.000Z WARN  test: map nearly full map=fqdn fill=0.9 note="two words"',
  );
});

for (const format of ['json', 'text'] as const) {
  test(`${format}: names cannot break lines, colour or turn them`, () => {
    const { log, lines } = capture(format);
    log.error(attack, { pod: attack, list: [attack], error: new Error(attack), [attack]: 1 });
    assert.equal(lines().length, 1);
    // oxlint-disable-next-line no-control-regex -- that none is left is the point
    assert.doesNotMatch(lines()[0] ?? '', /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e]/);
    if (format === 'json') assert.equal(JSON.parse(lines()[0] ?? '').pod, attack);
  });
}

test('a field cannot replace the message, the level or the program', () => {
  const { log, lines } = capture('json');
  log.info('true message', { message: 'forged', level: 'error', program: 'other', time: 'never' });
  const line = JSON.parse(lines()[0] ?? '');
  assert.deepEqual([line.message, line.level, line.program], ['true message', 'info', 'test']);
});

test('an error is told with its code, facts and causes', () => {
  const { log, lines } = capture('json');
  const cause = new Error('ECONNREFUSED');
  const facts = { path: '/run/x.sock' };
  log.error('no peer', { error: new TandemError('TANDEM_RPC', 'call failed', { cause, facts }) });
  assert.equal(
    JSON.parse(lines()[0] ?? '').error,
    'TANDEM_RPC: call failed (path=/run/x.sock); because: ECONNREFUSED',
  );
});

test('a cause whose message is in that of the error is told once', () => {
  const { log, lines } = capture('json');
  const cause = Object.assign(new Error('cannot pin a map: ENOSPC'), {
    code: 'TANDEM_BPF_FULL',
    errnoName: 'ENOSPC',
    syscall: 'BPF_OBJ_PIN',
  });
  log.error('start failed', { error: TandemError.from(cause, 'load the datapath') });
  assert.equal(
    JSON.parse(lines()[0] ?? '').error,
    'TANDEM_BPF_FULL: load the datapath: cannot pin a map: ENOSPC (errno=ENOSPC syscall=BPF_OBJ_PIN)',
  );
});

test('the code of a cause whose message was said is in the line', () => {
  const { log, lines } = capture('json');
  const cause = new TandemError('TANDEM_MARK', 'no mark bit is free', { facts: { tried: 3 } });
  const message = `the datapath cannot be loaded: ${cause.message}`;
  log.error('start failed', { error: new TandemError('TANDEM_DATAPATH', message, { cause }) });
  assert.equal(
    JSON.parse(lines()[0] ?? '').error,
    'TANDEM_DATAPATH: the datapath cannot be loaded: no mark bit is free; because: TANDEM_MARK',
  );
});

test('a cause is in the line also if the stack has its message as part of a name', () => {
  const { log, lines } = capture('json');
  log.error('start failed', { error: new Error('no start', { cause: new Error('log.test') }) });
  assert.match(JSON.parse(lines()[0] ?? '').error, /log\.test\.ts[^]*; because: log\.test$/);
});

test('long text is cut, and the level holds', () => {
  const { log, lines } = capture('json');
  log.debug('not written');
  log.info('x'.repeat(logTextCharsMax + 1));
  assert.equal(lines().length, 1);
  assert.match(lines()[0] ?? '', /x\.\.\. \(8193 characters\)/);
});

test('a flood is suppressed, counted and told; errors pass', () => {
  const state = capture('json');
  for (let i = 0; i < logLinesPerSecondMax + 50; i++) state.log.info('flood');
  state.log.error('still here');
  assert.equal(state.lines().length, logLinesPerSecondMax + 1);
  assert.equal(state.log.suppressed, 50);
  state.nowMs += 1000;
  state.log.info('after');
  const [told, after] = state.lines().slice(-2);
  assert.equal(JSON.parse(told ?? '').count, 50);
  assert.equal(JSON.parse(after ?? '').message, 'after');
});

test('a line about a failure that is repeated is written once, and then with its count', () => {
  const state = capture('json');
  const error = new TandemError('TANDEM_RPC', 'connect ECONNREFUSED');
  for (let i = 0; i < 8; i++) {
    state.log.info('agent is unreachable', { error });
    state.nowMs += 600;
  }
  assert.equal(state.lines().length, 1);
  assert.equal(state.log.repeated, 7);
  state.nowMs += repeatWindowMs;
  state.log.info('agent is back');
  const [, repeated, back] = state.lines().map((line) => JSON.parse(line));
  assert.deepEqual(
    [repeated.message, repeated.repeated, repeated.level, repeated.error],
    ['agent is unreachable', 7, 'info', 'TANDEM_RPC: connect ECONNREFUSED'],
  );
  assert.equal(back.message, 'agent is back');
  state.log.info('agent is unreachable', { error });
  assert.equal(state.lines().length, 4, 'after the window it is said again');
});

test('of two failures in turns, each is written once, the last of them last', () => {
  const state = capture('json');
  for (const message of ['down', 'up', 'down', 'up', 'up', 'down']) state.log.warn(message);
  state.nowMs += repeatWindowMs;
  state.log.info('later');
  assert.deepEqual(
    state.lines().map((line) => {
      const { message, repeated = 0 } = JSON.parse(line);
      return `${message} ${repeated}`;
    }),
    ['down 0', 'up 0', 'up 2', 'down 2', 'later 0'],
  );
});

test('equal lines without a failure are all written, and so are failures that differ in a field', () => {
  const { log, lines } = capture('json');
  log.info('policy applied', { revision: 7 });
  log.info('policy applied', { revision: 7 });
  log.error('refused', { object: 'a' });
  log.error('refused', { object: 'b' });
  log.child({ component: 'x' }).error('refused', { object: 'b' });
  assert.equal(lines().length, 5);
});

test('more different failures than are counted are all written, with no count lost', () => {
  const state = capture('json');
  state.log.error('first');
  state.log.error('first');
  for (let i = 0; i < repeatKeysMax; i++) state.log.error(`other ${i}`);
  const first = state.lines().filter((line) => line.includes('first'));
  assert.equal(JSON.parse(first[1] ?? '{}').repeated, 1);
  assert.equal(state.lines().length, repeatKeysMax + 2);
});

test('the count is written when nothing else is', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const state = capture('json');
  state.log.error('refused');
  state.log.error('refused');
  state.nowMs += repeatWindowMs;
  t.mock.timers.tick(repeatWindowMs);
  assert.equal(JSON.parse(state.lines()[1] ?? '{}').repeated, 1);
});

for (const { what, redirect } of [
  { what: 'a full disk', redirect: '2> /dev/full' },
  { what: 'a pipe whose reader ended', redirect: '2> >(exit 0)' },
]) {
  test(`standard error is ${what}: the process goes on, and counts the lines that are lost`, () => {
    const script = `
      const { createLogger } = await import(${JSON.stringify(new URL('./log.ts', import.meta.url).href)});
      const { setTimeout: delay } = await import('node:timers/promises');
      const log = createLogger({ program: 'child' });
      for (let i = 0; log.child({}).lost < 3 && i < 500; i++) { log.info('line'); await delay(10); }
      process.stdout.write(log.lost + ' lost: ' + log.problem);`;
    const child = spawnSync(
      'bash',
      [
        '-c',
        `exec "$@" ${redirect}`,
        'bash',
        process.execPath,
        '--conditions=@tandem/source',
      ].concat('--input-type=module', '-e', script),
      { encoding: 'utf8', timeout: 20_000 },
    );
    assert.equal(child.status, 0);
    assert.match(child.stdout, /^[3-9] lost: .*(ENOSPC|EPIPE)/);
  });
}

test('surrogate pairs stay, lone surrogates do not', () => {
  assert.equal(escapeLogText('\u{1f600}'), '\u{1f600}');
  assert.equal(escapeLogText('\ud800'), '\\ud800');
});

test('lines written just before the process ends arrive', () => {
  const script = `
    const { createLogger } = await import(${JSON.stringify(new URL('./log.ts', import.meta.url).href)});
    const log = createLogger({ program: 'child' });
    for (let i = 0; i < 100; i++) log.info('line ' + i);
    process.exit(3);`;
  const child = spawnSync(
    process.execPath,
    ['--conditions=@tandem/source', '--input-type=module', '-e', script],
    { encoding: 'utf8', timeout: 20_000 },
  );
  assert.equal(child.status, 3, child.stderr);
  assert.equal(child.stderr.trim().split('\n').length, 100);
});
