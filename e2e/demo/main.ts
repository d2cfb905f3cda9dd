// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run demo: Tandem at work on one node, shown on real packets, with faults. */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { boolOption } from '@tandem/runtime/config-option';
import { runTool, type ToolSpec } from '@tandem/runtime/tool';
import { askDns } from '@tandem/testing/dns-query';
import { waitFor } from '@tandem/testing/wait';
import { waitForEqualCaches } from '../kit/admin.ts';
import { Narrator } from './narrator.ts';
import { clusterDns, names, type Stage, setStage } from './stage.ts';

interface Options {
  readonly hold: boolean;
  readonly fast: boolean;
}

const tool: ToolSpec<Options> = {
  program: './run demo',
  description: 'Tandem at work on one node made of network namespaces, step by step, with faults.',
  options: {
    hold: boolOption({
      description: 'leave the node up at the end, with the commands to explore it',
      default: false,
    }),
    fast: boolOption({ description: 'no rests between steps', default: false }),
  },
};

const tandemMain = fileURLToPath(new URL('../../packages/cli/dist/main.js', import.meta.url));

async function expectReached(
  { shop }: Stage,
  [name, address]: readonly [string, string],
): Promise<string> {
  const reply = await askDns(shop, { server: clusterDns, name });
  if (reply.rcode !== 'NOERROR' || reply.addresses[0] !== address) {
    throw new Error(`${name}: ${reply.rcode} ${reply.addresses.join(' ')}`);
  }
  const stream = await shop.tcp({ to: address, port: 80, data: 'GET', want: 1 });
  if (stream.retransmits > 0)
    throw new Error(`${address}: ${stream.retransmits} SYNs were dropped`);
  return `${name} → ${address}, connected in ${(stream.connectUs / 1000).toFixed(1)} ms`;
}

async function expectRefused({ shop }: Stage, [name]: readonly [string, string]): Promise<string> {
  const reply = await askDns(shop, { server: clusterDns, name });
  if (reply.rcode !== 'REFUSED') throw new Error(`${name}: ${reply.rcode}`);
  return `${name} → REFUSED`;
}

async function expectDropped(
  { shop }: Stage,
  [, address]: readonly [string, string],
): Promise<string> {
  try {
    await shop.tcp({ to: address, port: 80, data: 'GET', want: 1, timeoutMs: 600 });
  } catch {
    return `${address}:80 → no answer`;
  }
  throw new Error(`${address} was reached`);
}

/** `tandem ARGS` on the demo's node: its output and exit code. */
async function cli(stage: Stage, args: readonly string[]): Promise<{ out: string; code: number }> {
  const flags = ['--bpffs-dir', stage.tandem.pinRoot, '--run-dir', stage.tandem.runDirectory];
  const [command, all] = stage.node.node.enter(process.execPath, [tandemMain, ...args, ...flags]);
  try {
    const { stdout } = await promisify(execFile)(command, all, { timeout: 20_000 });
    return { out: stdout, code: 0 };
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: number };
    return { out: `${stdout}${stderr}`, code };
  }
}

async function expectStatus(stage: Stage, code: number): Promise<string> {
  return waitFor(
    async () => {
      const status = await cli(stage, ['status']);
      return status.code === code ? `tandem status: exit code ${code}` : null;
    },
    { what: `tandem status to exit with ${code}`, timeoutMs: 15_000 },
  );
}

async function policyAtWork(narrator: Narrator, stage: Stage): Promise<void> {
  narrator.chapter('Policy by name');
  await narrator.step('an allowed name is answered and reached', () =>
    expectReached(stage, names.api),
  );
  await narrator.step('another name is refused, and never sent to the resolver', () =>
    expectRefused(stage, names.evil),
  );
  await narrator.step('its address is dropped, too', () => expectDropped(stage, names.evil));
  await narrator.step('a wildcard covers every host of the CDN', () =>
    expectReached(stage, names.cdn),
  );
  await narrator.step('a pod without policy is left alone', async () => {
    await stage.batch.tcp({ to: names.evil[1], port: 80, data: 'GET', want: 1 });
    return `batch → ${names.evil[1]}`;
  });
}

async function oneDown(
  narrator: Narrator,
  stage: Stage,
  victim: 'agent' | 'proxy',
  fresh: readonly [string, string],
): Promise<void> {
  narrator.chapter(victim === 'agent' ? 'The agent is killed' : 'The DNS proxy is killed');
  await stage.tandem.kill(victim);
  narrator.say(`kill -9: the ${victim} is gone`);
  await narrator.step('known names go on', () => expectReached(stage, names.api));
  await narrator.step('a name never seen before is learned and reached', () =>
    expectReached(stage, fresh),
  );
  await narrator.step('denied stays denied', () => expectRefused(stage, names.evil));
  await narrator.step('and unreachable', () => expectDropped(stage, names.evil));
  await narrator.step('the status says degraded', () => expectStatus(stage, 1));
  await stage.tandem.startProcess(victim);
  await stage.tandem.waitForMembers(['agent', 'proxy']);
  narrator.say(`the ${victim} is back`);
  await narrator.step('both know the same names again', () => expectEqualCaches(stage));
}

/** Names and addresses as each process tells them on its own socket. */
async function expectEqualCaches({ tandem }: Stage): Promise<string> {
  return `${await waitForEqualCaches(tandem, 5000)} addresses of names in both caches`;
}

async function hold({ node, tandem }: Stage): Promise<void> {
  const enter = (namespace: string): string => `nsenter --net=/run/netns/${namespace}`;
  const flags = `--bpffs-dir ${tandem.pinRoot} --run-dir ${tandem.runDirectory}`;
  console.log(`
The node stays up. In another terminal:

  ${enter(node.pod('shop').namespace.name)} bash        # be the shop pod
  ${enter(node.node.name)} bash        # be the node
  ${process.execPath} ${tandemMain} status ${flags}
  ${process.execPath} ${tandemMain} observe ${flags}
  policies: ${tandem.policyDirectory} (edit them: they are watched)

Ctrl-C ends it.`);
  await once(process, 'SIGINT');
}

async function main({ hold: isHeld, fast }: Options): Promise<number> {
  const narrator = new Narrator(fast || process.stdout.isTTY !== true ? 0 : 1200);
  narrator.say(
    'making a node from network namespaces: pods shop, batch, dns; starting agent and proxy',
  );
  const stage = await setStage();
  try {
    await policyAtWork(narrator, stage);
    await oneDown(narrator, stage, 'agent', names.cdn2);
    await oneDown(narrator, stage, 'proxy', names.cdn3);
    narrator.chapter('Status');
    await narrator.step('healthy', () => expectStatus(stage, 0));
    console.log((await cli(stage, ['status'])).out);
    narrator.end();
    if (isHeld) await hold(stage);
    return narrator.failures === 0 ? 0 : 1;
  } finally {
    await stage.node[Symbol.asyncDispose]();
  }
}

process.exitCode = await runTool(tool, main);
