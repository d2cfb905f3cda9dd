// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The hand-over of an upgrade by surge: a second process of a kind stands by while the first serves, is ready as its pod
 * would be, and takes its place when that one ends: told to, or because it hangs.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fenceAfterMs } from '@tandem/dns-proxy/limits';
import { run } from '@tandem/testing/process';
import { patience, waitFor } from '@tandem/testing/wait';
import { waitForEqualCaches } from '../kit/admin.ts';
import { attached } from '../kit/attached.ts';
import { agentMapsText } from '../kit/enforcement.ts';
import { startLoad } from '../kit/load.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import { ask, Probes, type Second, standBy, waitForAnswer } from '../kit/standing-by.ts';

const rate = 500;
const rounds = process.env['TANDEM_TEST_TIER'] === 'full' ? 20 : 2;
/** Time until one that hangs is fenced, with what a busy machine adds. */
const fencedMsMax = fenceAfterMs + 4000;
const program = { agent: 'tandem-agent', proxy: 'tandem-dns-proxy' } as const;

const probes = new Probes();
after(() => probes[Symbol.dispose]());

/** Listening sockets and named ones of a process. */
async function socketsOf({ node }: StandardNode, pid: number): Promise<string> {
  const [command, args] = node.node.enter('ss', ['-Hlnptux']);
  const { stdout } = await run(command, args);
  return stdout
    .split('\n')
    .filter((line) => line.includes(`pid=${pid},`))
    .join('\n');
}

for (const name of ['agent', 'proxy'] as const) {
  describe(`a second ${name}`, () => {
    let standard: StandardNode;
    let second: Second;
    before(async () => {
      standard = await startStandardNode();
    });
    after(() => standard[Symbol.asyncDispose]());

    test('stands by: ready, with nothing bound that is the node’s, and nothing written', async () => {
      const { tandem } = standard;
      const before_ = [attached(tandem), agentMapsText(tandem), tandem.members().length];
      const files = (): readonly string[] =>
        [tandem.runDirectory, join(tandem.runDirectory, 'proxy'), tandem.stateDirectory].flatMap(
          (path) => readdirSync(path),
        );
      const filesBefore = files();
      second = await standBy(standard.tandem, name, probes);
      assert.equal(await ask(second.socket, 'livez'), 'ok standby');
      const sockets = await socketsOf(standard, second.running.pid);
      assert.deepEqual(
        sockets.split('\n').map((line) => line.includes(second.socket)),
        [true],
        `only the socket of its probes: ${sockets}`,
      );
      assert.deepEqual(files(), filesBefore);
      assert.deepEqual([attached(tandem), agentMapsText(tandem), tandem.members().length], before_);
    });

    test('ends at once when it is told to', async () => {
      const { running } = await standBy(standard.tandem, name, probes);
      const started = performance.now();
      process.kill(running.pid, 'SIGTERM');
      assert.deepEqual(await running.exited, { status: 0, signal: null });
      assert.ok(performance.now() - started < 3000 * patience);
    });

    test('serves when the first one is told to end: no query is lost', async () => {
      const { tandem, node } = standard;
      await using load = startLoad(node.pod('client').namespace, {
        server: clusterDns4,
        rate,
        seconds: 6,
        nameFormat: 'n-%u.allowed.test',
        nameStart: 50_000,
        nameCount: 3000,
      });
      const first = tandem.process(name);
      process.kill(first.pid, 'SIGTERM');
      await first.exited;
      const ended = performance.now();
      tandem.adopt(name, second.running);
      await waitFor(
        () =>
          tandem.members().some(({ pid, isServing }) => pid === second.running.pid && isServing),
        { what: 'the second one to serve' },
      );
      console.log(
        `${name}: LIVE ${(performance.now() - ended).toFixed(0)} ms after the first one's end`,
      );
      await waitForAnswer(second.socket, 'ok serving');
      const { sent, lost, rcodes } = await load.result;
      assert.equal(lost, 0, `${lost} of ${sent} lost`);
      assert.deepEqual(rcodes, { 0: sent });
      await tandem.waitForMembers(['agent', 'proxy']);
      await waitForEqualCaches(tandem, 5000);
    });

    test('ends the first one when that hangs, and serves', async () => {
      const { tandem, node } = standard;
      const third = await standBy(standard.tandem, name, probes);
      await using load = startLoad(node.pod('client').namespace, {
        server: clusterDns4,
        rate,
        seconds: 10,
        nameFormat: 'n-%u.allowed.test',
        nameStart: 60_000,
        nameCount: 3000,
      });
      const hung = tandem.process(name);
      const started = performance.now();
      tandem.signal(name, 'SIGSTOP');
      assert.deepEqual(await hung.exited, { status: null, signal: 'SIGKILL' });
      const hungMs = performance.now() - started;
      assert.ok(hungMs >= fenceAfterMs, 'it had its time');
      assert.ok(hungMs < fencedMsMax * patience, `${hungMs} ms`);
      tandem.adopt(name, third.running);
      await waitForAnswer(third.socket, 'ok serving');
      assert.match(
        third.running.stderr(),
        /had this member index gave no heartbeat and was killed/,
      );
      const { sent, lost } = await load.result;
      assert.equal(lost, 0, `${lost} of ${sent} lost`);
      await tandem.waitForMembers(['agent', 'proxy']);
      const fences = readdirSync(
        name === 'agent' ? tandem.runDirectory : join(tandem.runDirectory, 'proxy'),
      ).filter((each) => each.startsWith('fence-'));
      assert.equal(fences.length, 1, 'those of former lives are gone');
    });

    test('who hangs while nobody waits goes on afterwards', async () => {
      const { tandem } = standard;
      const { pid } = tandem.process(name);
      tandem.signal(name, 'SIGSTOP');
      await waitFor(
        () =>
          tandem.members().some((each) => each.pid === pid && each.beatAgeMs > 1.3 * fenceAfterMs),
        {
          what: 'it to be silent for long',
          timeoutMs: 20_000,
        },
      );
      tandem.signal(name, 'SIGCONT');
      await tandem.waitForMembers(['agent', 'proxy']);
      assert.equal(tandem.process(name).pid, pid);
    });

    test(`${program[name]} that cannot stand by ends, and the first one serves on`, async () => {
      const { tandem } = standard;
      const running = await tandem.startBeside(name, { flags: { port: 80 } });
      assert.equal((await running.exited).status, 2);
      await tandem.waitForMembers(['agent', 'proxy']);
    });
  });
}

test(`both at once, as an upgrade does it, ${rounds} times: no query is lost`, async () => {
  // Else one of the two would not wait until the other's place is taken.
  await using standard = await startStandardNode({ options: { 'drain-timeout': '20s' } });
  const { tandem, node } = standard;
  for (let round = 1; round <= rounds; round++) {
    const seconds = {
      agent: await standBy(tandem, 'agent', probes),
      proxy: await standBy(tandem, 'proxy', probes),
    };
    await using load = startLoad(node.pod('client').namespace, {
      server: clusterDns4,
      rate,
      seconds: 30,
      nameFormat: 'n-%u.allowed.test',
      nameStart: 70_000,
      nameCount: 3000,
      queriesPerPort: 50,
      timeoutMs: 5000,
    });
    const firsts = (['agent', 'proxy'] as const).map((name) => tandem.process(name));
    for (const { pid } of firsts) process.kill(pid, 'SIGTERM');
    await Promise.all(firsts.map(({ exited }) => exited));
    for (const name of ['agent', 'proxy'] as const) {
      tandem.adopt(name, seconds[name].running);
      await waitForAnswer(seconds[name].socket, 'ok serving');
    }
    await tandem.waitForMembers(['agent', 'proxy']);
    load.end();
    const { sent, lost, rcodes, maxUs } = await load.result;
    console.log(`round ${round}: ${sent} queries, slowest ${(maxUs / 1000).toFixed(0)} ms`);
    assert.equal(lost, 0, `${lost} of ${sent} lost`);
    assert.deepEqual(rcodes, { 0: sent });
  }
});

test('the probe of a process that is stopped says no, and so does that of one that is gone', async () => {
  await using standard = await startStandardNode();
  const socket = await probes.newSocket('proxy');
  const { tandem } = standard;
  await tandem.kill('proxy');
  await tandem.startProcess('proxy', { flags: { 'probe-socket': socket } });
  await waitForAnswer(socket, 'ok serving');
  tandem.signal('proxy', 'SIGSTOP');
  assert.equal(await ask(socket, 'livez'), '');
  tandem.signal('proxy', 'SIGCONT');
  assert.equal(await ask(socket, 'livez'), 'ok serving');
  await tandem.kill('proxy');
  assert.equal(await ask(socket, 'livez'), '');
  assert.ok(existsSync(dirname(socket)));
});
