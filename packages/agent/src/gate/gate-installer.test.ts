// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  gateConfigName,
  gatePluginName,
  hasPlugin,
  installConfig,
  installPlugin,
  isInChain,
  removeConfig,
} from './gate-installer.ts';

const root = mkdtempSync(join(tmpdir(), 'tandem-cni-'));
const socketPath = '/run/tandem/gate/gate.sock';
const places = { configDirectory: root, pluginDirectory: root, socketPath };
const own = join(root, gateConfigName);
const bridge = {
  cniVersion: '1.0.0',
  name: 'pods',
  disableCheck: true,
  plugins: [{ type: 'bridge', ipam: { type: 'host-local' } }, { type: 'portmap' }],
};
const put = (name: string, content: unknown): void =>
  writeFileSync(join(root, name), typeof content === 'string' ? content : JSON.stringify(content));
const written = (): unknown => JSON.parse(readFileSync(own, 'utf8'));

beforeEach(() => {
  for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
});
after(() => rmSync(root, { recursive: true }));

test('the first configuration of another program is copied, with the gate last', () => {
  put('20-other.conflist', { ...bridge, name: 'other' });
  put('10-net.conflist', bridge);
  assert.deepEqual(installConfig(places), {
    ok: true,
    value: { kind: 'written', copyOf: '10-net.conflist' },
  });
  const gate = { type: gatePluginName, gateSocket: socketPath };
  assert.deepEqual(written(), { ...bridge, plugins: [...bridge.plugins, gate] });
  assert.equal(readdirSync(root).sort()[0], gateConfigName, 'the runtime takes the first by name');
  assert.deepEqual(installConfig(places), {
    ok: true,
    value: { kind: 'unchanged', copyOf: '10-net.conflist' },
  });
});

test('a change of the other configuration is followed, and its end too', () => {
  put('10-net.conflist', bridge);
  installConfig(places);
  put('10-net.conflist', { ...bridge, name: 'renamed' });
  assert.equal(installConfig(places).ok, true);
  assert.equal((written() as { name: string }).name, 'renamed');
  put('01-earlier.conf', { cniVersion: '0.3.1', name: 'one', type: 'ptp', mtu: 1400 });
  installConfig(places);
  assert.deepEqual(written(), {
    name: 'one',
    cniVersion: '0.3.1',
    plugins: [
      { type: 'ptp', mtu: 1400 },
      { type: gatePluginName, gateSocket: socketPath },
    ],
  });
  for (const name of ['10-net.conflist', '01-earlier.conf']) rmSync(join(root, name));
  assert.deepEqual(installConfig(places), { ok: true, value: { kind: 'removed' } });
  assert.deepEqual(installConfig(places), { ok: true, value: { kind: 'absent' } });
  assert.deepEqual(readdirSync(root), []);
});

test('what is no configuration keeps what was written, and is named', () => {
  put('10-net.conflist', bridge);
  installConfig(places);
  const before = readFileSync(own, 'utf8');
  const cases: readonly (readonly [content: unknown, expected: RegExp])[] = [
    ['{"name":"pods","plu', /10-net.conflist: it is no JSON/],
    [[], /no object/],
    [{ plugins: [{ type: 'bridge' }] }, /no name/],
    [{ name: 'pods' }, /neither plugins nor a type/],
    [{ name: 'pods', plugins: [] }, /no plugin/],
    [{ name: 'pods', plugins: ['bridge'] }, /no list of objects/],
    [{ name: 'cilium', plugins: [{ type: 'cilium-cni' }] }, /of Cilium/],
  ];
  for (const [content, expected] of cases) {
    put('10-net.conflist', content);
    const result = installConfig(places);
    assert.ok(!result.ok);
    assert.match(result.error, expected);
    assert.equal(readFileSync(own, 'utf8'), before);
  }
  const nowhere = installConfig({ ...places, configDirectory: join(root, 'nowhere') });
  assert.ok(!nowhere.ok);
  assert.match(nowhere.error, /ENOENT/);
});

test('a gate in the other configuration is not there twice', () => {
  put('10-net.conflist', { ...bridge, plugins: [...bridge.plugins, { type: gatePluginName }] });
  installConfig(places);
  const { plugins } = written() as { plugins: readonly { type: string }[] };
  assert.deepEqual(
    plugins.map(({ type }) => type),
    ['bridge', 'portmap', gatePluginName],
  );
});

test('the copy of a configuration may be read by those alone who may read it', () => {
  put('10-net.conflist', bridge);
  chmodSync(join(root, '10-net.conflist'), 0o644);
  installConfig(places);
  assert.equal(statSync(own).mode & 0o777, 0o644);
  chmodSync(join(root, '10-net.conflist'), 0o600);
  assert.deepEqual(installConfig(places), {
    ok: true,
    value: { kind: 'written', copyOf: '10-net.conflist' },
  });
  assert.equal(statSync(own).mode & 0o777, 0o600);
});

test('the program is put in place whole and can be run; removal leaves it', () => {
  const program = fileURLToPath(new URL('../../../cni-gate/build/tandem-gate', import.meta.url));
  put(gatePluginName, 'an older one');
  assert.equal(installPlugin(program, places).ok, true);
  const path = join(root, gatePluginName);
  assert.equal(statSync(path).mode & 0o777, 0o755);
  const said = execFileSync(path, { env: { CNI_COMMAND: 'VERSION' }, input: '{}' }).toString();
  assert.match(said, /"supportedVersions":\["0.3.0"/);
  const { ino } = statSync(path);
  installPlugin(program, places);
  assert.equal(statSync(path).ino, ino, 'the same one is not written again');
  chmodSync(path, 0o644);
  installPlugin(program, places);
  assert.equal(statSync(path).mode & 0o777, 0o755, 'no pod would start, and none end');
  put('10-net.conflist', bridge);
  installConfig(places);
  assert.equal(removeConfig(places), true);
  assert.equal(removeConfig(places), false);
  assert.deepEqual(readdirSync(root).sort(), ['10-net.conflist', gatePluginName]);
});

test('a configuration that comes before is named, unless it calls the gate, and is never copied', () => {
  const multus = { cniVersion: '1.0.0', name: 'multus', type: 'multus' };
  put('10-net.conflist', bridge);
  put('00-multus.conf', multus);
  const result = installConfig(places);
  assert.ok(!result.ok);
  assert.match(result.error, /00-multus\.conf comes before 00-tandem\.conflist/);
  assert.equal(isInChain(places), false);
  assert.equal((written() as { name: string }).name, 'pods', 'Multus hands pods on to our copy');
  for (const more of [
    { delegates: [{ ...bridge, plugins: [...bridge.plugins, { type: gatePluginName }] }] },
    { clusterNetwork: own },
  ]) {
    put('00-multus.conf', { ...multus, ...more });
    assert.equal(installConfig(places).ok, true);
    assert.equal(isInChain(places), true);
  }
  rmSync(join(root, '10-net.conflist'));
  assert.equal(installConfig(places).ok, true);
  assert.equal(isInChain(places), true, 'by the copy that Multus made');
});

test('directories are passed over, as the container runtime does', () => {
  mkdirSync(join(root, '05-old.conf'));
  put('10-net.conflist', bridge);
  const result = installConfig(places);
  assert.deepEqual(result, { ok: true, value: { kind: 'written', copyOf: '10-net.conflist' } });
});

test('what cannot be written is named, and leaves no draft', () => {
  mkdirSync(join(root, gatePluginName));
  put('program', 'a program');
  const result = installPlugin(join(root, 'program'), places);
  assert.ok(!result.ok);
  assert.match(result.error, new RegExp(`${join(root, gatePluginName)}: EISDIR`));
  assert.equal(hasPlugin(places), false);
  assert.deepEqual(readdirSync(root).sort(), ['program', gatePluginName].sort());
});
