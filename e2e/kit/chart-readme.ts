// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** charts/tandem/README.md, from the comments of values.yaml: `# -- TEXT` before a key says what the value is. */

import { readFileSync } from 'node:fs';
import { isMap, isScalar, type Node, parseDocument, type YAMLMap } from 'yaml';

export interface ChartValue {
  /** With dots. */
  readonly path: string;
  /** As JSON. */
  readonly fallback: string;
  readonly text: string;
}

const marker = '-- ';

/** Values that are set whole, each with its text. @throws Error naming a value without one */
export function chartValues(file: string): readonly ChartValue[] {
  const document = parseDocument(readFileSync(file, 'utf8'));
  if (document.errors.length > 0 || !isMap(document.contents)) throw new Error(`${file}: no map`);
  return valuesOf(document.contents, '', document.contents.commentBefore ?? '');
}

/** The comment before the first key of a map is the map's. */
function valuesOf(map: YAMLMap, prefix: string, first: string): readonly ChartValue[] {
  return map.items.flatMap(({ key, value }, index) => {
    if (!isScalar(key)) return [];
    const own = (key as Node).commentBefore ?? (index === 0 ? first : '');
    const path = `${prefix}${String(key.value)}`;
    const text = textOf(own);
    if (text !== '') return [{ path, text, fallback: JSON.stringify(value) ?? 'null' }];
    if (!isMap(value) || value.items.length === 0) throw new Error(`${path} has no text`);
    return valuesOf(value, `${path}.`, value.commentBefore ?? '');
  });
}

/** Text of the last part of a comment: what stands before an empty line is about something else. */
function textOf(comment: string): string {
  const lines = (comment.split(/\n\s*\n/).at(-1) ?? '').split('\n').map((line) => line.trim());
  const start = lines.findIndex((line) => line.startsWith(marker));
  if (start === -1) return '';
  return lines.slice(start).join(' ').slice(marker.length);
}

export function chartReadme(directory: string, generated: string): string {
  const { description, version, appVersion, kubeVersion } = parseDocument(
    readFileSync(`${directory}/Chart.yaml`, 'utf8'),
  ).toJS() as Readonly<Record<string, string>>;
  const rows = chartValues(`${directory}/values.yaml`).map(
    ({ path, fallback, text }) =>
      `| \`${path}\` | \`${fallback.replaceAll('|', '\\|')}\` | ${text.replaceAll('|', '\\|')} |`,
  );
  return `# tandem

${generated}

${description}. Chart ${version}, of Tandem ${appVersion}, for Kubernetes ${kubeVersion}.

Install, upgrade, uninstall: \`docs/kubernetes.md\`. Rights of the chart on a cluster: \`docs/chart-security.md\`. Metrics and alerts: \`docs/monitoring.md\`.

## Values

A value that is not here is refused before anything is installed. A change of one replaces the pods that it concerns, as an upgrade does.

| value | default | |
| --- | --- | --- |
${rows.join('\n')}
`;
}
