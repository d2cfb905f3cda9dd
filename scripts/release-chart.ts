// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The chart of a release: charts/tandem with its version, and images that were pushed, by their digests. The images are then
 * these, also after a tag has moved.
 */

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../charts/tandem', import.meta.url));
const module = (path: string): string => new URL(`../${path}`, import.meta.url).href;
const { parseDocument } = await import(module('e2e/kit/yaml-document.ts'));
const { stringOption } = await import(module('packages/runtime/src/config-option.ts'));
const { runTool } = await import(module('packages/runtime/src/tool.ts'));

interface Release {
  readonly output: string;
  readonly version: string;
  readonly registry: string;
  readonly repository: string;
  readonly agent: string;
  readonly dnsProxy: string;
}

const digestPattern = { test: /^sha256:[0-9a-f]{64}$/, range: 'a digest: sha256: and 64 digits' };
const digestOf = (name: string) =>
  stringOption({
    placeholder: 'DIGEST',
    description: `of the image ${name}`,
    pattern: digestPattern,
  });

const tool = {
  program: 'node scripts/release-chart.ts',
  description:
    'Writes the chart to DIR/tandem, with appVersion and version VERSION, and images HOST/PATH/agent and HOST/PATH/dns-proxy of these digests (sha256:...). What is in DIR/tandem is replaced.',
  options: {
    output: stringOption({ placeholder: 'DIR', description: 'where to' }),
    version: stringOption({
      ...{ placeholder: 'VERSION', description: 'of the chart and of the images' },
      pattern: {
        test: /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/,
        range: 'a version such as 1.2.3',
      },
    }),
    registry: stringOption({ placeholder: 'HOST', description: 'that has the images' }),
    repository: stringOption({ placeholder: 'PATH', description: 'of the images there' }),
    agent: digestOf('agent'),
    dnsProxy: digestOf('dns-proxy'),
  },
};

function writeChart({ output, version, registry, repository, agent, dnsProxy }: Release): number {
  const target = join(output, 'tandem');
  rmSync(target, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  cpSync(source, target, { recursive: true });
  const images = Object.entries({ agent, 'dns-proxy': dnsProxy }).map(([name, digest]) => ({
    name,
    image: `${registry}/${repository}/${name}:${version}@${digest}`,
  }));
  edit(join(target, 'Chart.yaml'), {
    version,
    appVersion: version,
    'annotations.artifacthub.io/images': images
      .map(({ name, image }) => `- name: ${name}\n  image: ${image}\n`)
      .join(''),
    'annotations.artifacthub.io/prerelease': String(version.includes('-')),
  });
  edit(join(target, 'values.yaml'), {
    'image.registry': registry,
    'image.repository': repository,
    'agent.image.digest': agent,
    'dnsProxy.image.digest': dnsProxy,
  });
  return 0;
}

/** Comments stay. The keys of annotations have dots of their own. */
function edit(file: string, changes: Readonly<Record<string, string>>): void {
  const document = parseDocument(readFileSync(file, 'utf8'));
  for (const [path, value] of Object.entries(changes)) {
    const annotation = /^annotations\.(.+)$/.exec(path)?.[1];
    document.setIn(annotation === undefined ? path.split('.') : ['annotations', annotation], value);
  }
  writeFileSync(file, document.toString({ lineWidth: 0 }));
}

process.exitCode = await runTool(tool, writeChart);
