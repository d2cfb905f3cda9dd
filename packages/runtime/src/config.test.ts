// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatAddress, type Prefix } from '@tandem/core/net/ip';
import {
  type ConfigResult,
  type ConfigSpec,
  configFileBytesMax,
  loadConfig,
  systemSources,
  variableName,
} from './config.ts';
import {
  boolOption,
  durationOption,
  enumOption,
  intOption,
  ipOption,
  listOption,
  prefixOption,
  stringOption,
} from './config-option.ts';
import { helpText, optionsMarkdown } from './config-text.ts';
import { flagName } from './flags.ts';
import { nearestName } from './nearest-name.ts';

interface TestConfig {
  readonly listenPort: number;
  readonly nodeName: string;
  readonly verbose: boolean;
  readonly upstreamTimeout: number;
  readonly logFormat: 'json' | 'text';
  readonly source: Uint8Array;
  readonly podCidrs: readonly Prefix[];
  readonly uids: readonly number[];
}

const network = { group: 'Network' };
const spec: ConfigSpec<TestConfig> = {
  program: 'tandem-test',
  description: 'A program.',
  options: {
    listenPort: intOption({
      ...network,
      default: 10_053,
      min: 1,
      max: 65_535,
      description: 'Port.',
    }),
    nodeName: stringOption({
      group: 'Node',
      description: 'Name of the node.',
      pattern: { test: /^[a-z0-9.-]+$/, range: 'a lower-case DNS name' },
    }),
    verbose: boolOption({ group: 'Log', default: false, description: 'More lines.' }),
    upstreamTimeout: durationOption({
      ...network,
      default: 5000,
      min: 100,
      max: 60_000,
      description: 'How long an upstream may take, a|b.',
    }),
    logFormat: enumOption({
      group: 'Log',
      default: 'json',
      values: ['json', 'text'],
      description: 'Form of lines.',
    }),
    source: ipOption({ ...network, default: '10.0.0.1', description: 'Source address.' }),
    podCidrs: listOption(prefixOption({ ...network, description: 'Pod prefixes.' }), {
      default: [],
    }),
    uids: listOption(intOption({ group: 'Node', min: 0, max: 10, description: 'Uids.' }), {
      default: [0],
      itemsMax: 3,
    }),
  },
  check: (config) => (config.listenPort === 53 ? ['listenPort must not be 53'] : []),
};

function load(
  argv: readonly string[],
  env: Record<string, string> = {},
  file = 'nodeName: n1\n',
): ConfigResult<TestConfig> {
  return loadConfig(spec, {
    argv: ['--config', '/etc/t.yaml', ...argv],
    env,
    readFile: () => file,
  });
}

function loaded(result: ConfigResult<TestConfig>): TestConfig {
  assert.ok(result.kind === 'config', JSON.stringify(result));
  return result.config;
}

function errors(result: ConfigResult<TestConfig>): readonly string[] {
  assert.ok(result.kind === 'error', JSON.stringify(result));
  return result.errors;
}

test('names of an option', () => {
  assert.equal(flagName('fqdnGraceSeconds'), 'fqdn-grace-seconds');
  assert.equal(variableName('fqdnGraceSeconds'), 'TANDEM_FQDN_GRACE_SECONDS');
});

test('flags before environment before file before defaults', () => {
  const file = 'nodeName: n1\nlistenPort: 1001\n';
  const env = { TANDEM_LISTEN_PORT: '1002' };
  const flag = ['--listen-port', '1003'];
  assert.equal(loaded(load([])).listenPort, 10_053);
  assert.equal(loaded(load([], {}, file)).listenPort, 1001);
  assert.equal(loaded(load([], env, file)).listenPort, 1002);
  const all = load(flag, env, file);
  assert.equal(loaded(all).listenPort, 1003);
  assert.ok(all.kind === 'config');
  assert.equal(all.origins.listenPort, 'flag');
  assert.equal(all.origins.nodeName, 'file');
  assert.equal(all.origins.verbose, 'default');
});

test('every kind as a flag', () => {
  const result = loaded(
    load([
      '--listen-port=0x2a',
      '--verbose',
      '--upstream-timeout=1m',
      '--log-format=text',
      '--source',
      '2001:db8::1',
      '--pod-cidrs',
      '10.1.0.0/16, 10.2.0.0/16',
      '--pod-cidrs=fd00::/8',
    ]),
  );
  assert.equal(result.listenPort, 42);
  assert.equal(result.verbose, true);
  assert.equal(result.upstreamTimeout, 60_000);
  assert.equal(result.logFormat, 'text');
  assert.equal(formatAddress(result.source), '2001:db8::1');
  assert.deepEqual(
    result.podCidrs.map((prefix) => prefix.bits),
    [112, 112, 8],
  );
  assert.equal(loaded(load(['--no-verbose'], { TANDEM_VERBOSE: 'true' })).verbose, false);
});

test('every kind in YAML', () => {
  const result = loaded(
    load(
      [],
      {},
      'nodeName: n1\nlistenPort: 0x10\nverbose: true\nupstreamTimeout: 200ms\nlogFormat: text\n' +
        'source: 192.0.2.7\npodCidrs: [10.1.0.0/16]\nuids: [1, 2]\n',
    ),
  );
  assert.equal(result.listenPort, 16);
  assert.equal(result.upstreamTimeout, 200);
  assert.equal(formatAddress(result.source), '192.0.2.7');
  assert.deepEqual(result.uids, [1, 2]);
});

const broken: readonly (readonly [string, ConfigResult<TestConfig>, RegExp])[] = [
  ['unknown key', load([], {}, 'nodeName: a\nlisten_prot: 1\n'), /"listen_prot".*"listenPort"/],
  ['unknown flag', load(['--upstream-time', '5s']), /--upstream-time;.*--upstream-timeout/],
  ['unknown flag with "="', load(['--hlep=1']), /unknown flag --hlep;.*--help/],
  ['a word', load(['start']), /unexpected argument "start"/],
  ['no value', load(['--listen-port']), /--listen-port needs a value/],
  ['range, flag', load(['--listen-port=70000']), /^--listen-port: 70000 is not in 1\.\.65535$/],
  ['range, env', load([], { TANDEM_LISTEN_PORT: '0' }), /^TANDEM_LISTEN_PORT: 0 is not in/],
  ['range, file', load([], {}, 'nodeName: a\nlistenPort: 0\n'), /t\.yaml: listenPort: 0 is not in/],
  ['no number', load(['--listen-port=12a']), /"12a" is not a whole number/],
  ['number as text in YAML', load([], {}, 'nodeName: a\nlistenPort: "1"\n'), /is a string/],
  ['text as number in YAML', load([], {}, 'nodeName: 5\n'), /is a number: quote it/],
  ['fraction', load([], {}, 'nodeName: a\nlistenPort: 1.5\n'), /must be a whole number/],
  ['no value in YAML', load([], {}, 'nodeName:\n'), /is no value/],
  ['duration without unit', load(['--upstream-timeout=5']), /"5" is not a duration such as/],
  ['duration range', load(['--upstream-timeout=1h']), /1h is not in 100ms\.\.1m/],
  ['enum', load(['--log-format=xml']), /"xml" is not one of json, text/],
  ['bool', load(['--verbose=yes']), /"yes" is not true or false/],
  ['address', load(['--source=10.0.0.256']), /"10\.0\.0\.256" is not an IP address/],
  ['prefix in a list', load(['--pod-cidrs=10.0.0.0/8,x']), /"x" is not an address prefix/],
  ['list in YAML', load([], {}, 'nodeName: a\nuids: 1\n'), /must be a list, is a number/],
  ['long list', load(['--uids=1,2,3,4']), /has 4 items, the limit is 3/],
  ['pattern', load(['--node-name=A_b']), /"A_b" is not a lower-case DNS name/],
  ['required', load([], {}, '{}'), /nodeName must be given \(--node-name, TANDEM_NODE_NAME/],
  ['relation', load(['--listen-port=53']), /listenPort must not be 53/],
  ['YAML syntax', load([], {}, 'nodeName: [\n'), /t\.yaml: .* at line/],
  ['key twice', load([], {}, 'nodeName: a\nnodeName: b\n'), /unique/],
  ['no map', load([], {}, '- a\n'), /must be a map of options/],
  ['alias', load([], {}, 'nodeName: &a n\nuids: [*a]\n'), /alias/i],
];

for (const [what, result, expected] of broken) {
  test(`error: ${what}`, () => {
    assert.ok(
      errors(result).some((error) => expected.test(error)),
      errors(result).join('\n'),
    );
  });
}

test('all errors are reported at once', () => {
  assert.equal(errors(load(['--listen-port=0', '--bogus', '--log-format=x'])).length, 3);
});

test('a file that cannot be read is an error that names it', () => {
  const result = loadConfig(spec, {
    argv: [],
    env: { TANDEM_CONFIG: '/nowhere.yaml' },
    readFile: () => {
      throw new Error('ENOENT');
    },
  });
  assert.match(errors(result)[0] ?? '', /cannot read \/nowhere\.yaml: ENOENT/);
});

test('a foreign TANDEM_ variable is a warning: Kubernetes makes some', () => {
  const result = load([], { TANDEM_SERVICE_HOST: '10.0.0.1', HOME: '/' });
  assert.ok(result.kind === 'config');
  assert.equal(result.warnings.length, 1);
  assert.match(result.warnings[0] ?? '', /^TANDEM_SERVICE_HOST is no option/);
});

for (const link of ['tcp://10.96.3.4:80', 'udp://[fd00:96::3]:53']) {
  test(`Kubernetes' link to a Service (${link}) under the name of an option is a warning, not its value`, () => {
    const result = load([], { TANDEM_LISTEN_PORT: link });
    assert.ok(result.kind === 'config');
    assert.equal(result.config.listenPort, 10_053);
    assert.equal(result.origins.listenPort, 'default');
    assert.equal(result.warnings.length, 1);
    assert.match(result.warnings[0] ?? '', /^TANDEM_LISTEN_PORT is Kubernetes' link to a Service/);
  });
}

test('help and version win over everything', () => {
  assert.equal(load(['--bogus', '--help']).kind, 'help');
  assert.equal(load(['--version']).kind, 'version');
});

test('help names every option with default and range, within 100 columns', () => {
  const text = helpText(spec);
  for (const name of Object.keys(spec.options))
    assert.ok(text.includes(`--${flagName(name)} `), name);
  assert.match(text, /--listen-port {2}\(int: 1\.\.65535; default: 10053\)/);
  assert.match(text, /--node-name {2}\(string: a lower-case DNS name; required\)/);
  assert.match(text, /--upstream-timeout {2}\(duration: 100ms\.\.1m; default: 5s\)/);
  for (const line of text.split('\n')) assert.ok(line.length <= 100, line);
});

test('the Markdown reference has a row for every option', () => {
  const text = optionsMarkdown(spec);
  assert.match(text, /^## Network\n/);
  assert.ok(
    text.includes('| `listenPort` | `--listen-port` | `TANDEM_LISTEN_PORT` | int: 1..65535 |'),
  );
  assert.ok(text.includes('a\\|b.'));
  assert.ok(text.includes('| **required** |'));
});

test('the nearest name', () => {
  assert.equal(nearestName('ndoeName', ['logFormat', 'nodeName']), 'nodeName');
  assert.equal(nearestName('pod_cidrs', ['podCidrs', 'podCidr']), 'podCidrs');
  assert.equal(nearestName('x', []), '');
});

test('a configuration is a regular file: a pipe without a writer keeps nobody waiting', () => {
  const directory = mkdtempSync(join(tmpdir(), 'config-'));
  try {
    const { readFile } = systemSources();
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const path of [pipe, directory, '/dev/zero']) {
      assert.throws(() => readFile(path), /not a regular file/, path);
    }
    const file = join(directory, 'file');
    writeFileSync(file, 'listenPort: 1');
    assert.equal(readFile(file), 'listenPort: 1');
    writeFileSync(file, new Uint8Array(configFileBytesMax + 1));
    assert.throws(() => readFile(file), /larger than/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('an option of the command line alone is in no file and no environment', () => {
  const flagOnly = { ...boolOption({ description: 'd', default: false }), isFlagOnly: true };
  const sources = (argv: string[], yaml: string) => ({
    ...{ argv, env: { TANDEM_KEEP_IT: 'true' } },
    readFile: () => yaml,
  });
  const keeping = { program: 'p', description: 'd', options: { keepIt: flagOnly } };
  const given = loadConfig(keeping, sources(['--keep-it'], ''));
  assert.deepEqual(given.kind === 'config' && given.config, { keepIt: true });
  const variable = loadConfig(keeping, sources([], ''));
  assert.deepEqual(variable.kind === 'config' && variable.config, { keepIt: false });
  const inFile = loadConfig(keeping, sources(['--config', 'file'], 'keepIt: true'));
  assert.match(String(inFile.kind === 'error' && inFile.errors), /unknown key "keepIt"/);
});
