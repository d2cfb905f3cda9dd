// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Texts of files, and what of them kubectl and we read otherwise, each for a reason. */

export interface ManifestText {
  readonly text: string;
  /** Why the readings may differ; absent: they must not. */
  readonly difference?: string;
}

/** Values without quotes: what is a text, a number or a truth value. */
const scalars: readonly string[] = [
  ...[
    'yes',
    'Yes',
    'YES',
    'no',
    'on',
    'On',
    'off',
    'y',
    'Y',
    'n',
    'N',
    'true',
    'True',
    'FALSE',
    'tRue',
  ],
  ...[
    '80',
    '080',
    '0120',
    '0o120',
    '0x50',
    '0X50',
    '0b101',
    '8_080',
    '1_0_0',
    '-80',
    '+80',
    '00',
    '0',
    '08',
  ],
  ...[
    '1e3',
    '1E3',
    '1.10',
    '1.',
    '.5',
    '-.5',
    '12e5',
    '1e',
    '0.0',
    '.inf',
    '1_0.5',
    '1.2.3',
    '10.0.0.0/8',
  ],
  ...[
    '12:30',
    '1:2:3',
    '2024-01-01',
    '2024-01-01T00:00:00Z',
    '2024-1-1',
    'null',
    'Null',
    'NULL',
    '~',
    'nil',
  ],
  ...[
    '',
    '"80"',
    "'yes'",
    '"\\u00e9"',
    '!!str 80',
    '!!int "80"',
    '=',
    'a: b',
    'a #b',
    'a#b',
    '"a" # b',
    'é',
    '☃',
  ],
  ...[
    '|\n  one\n  two',
    '>-\n  one\n  two',
    '[a, b,]',
    '{a: 1, b: [c]}',
    '[]',
    '{}',
    '- a',
    '@a',
    '%a',
    '`a`',
  ],
  ...[
    '::/0',
    'fd00::1',
    '::',
    '1:',
    '*',
    '*.example.com',
    '&a b',
    '!a b',
    '?',
    '-',
    '- ',
    'a\tb',
    '\ta',
  ],
];

const differing: Readonly<Record<string, string>> = {
  '0o120': 'a number to Go alone',
  '0X50': 'a number to Go alone',
  '.inf': 'JSON has no such number',
};

const structures: readonly ManifestText[] = [
  { text: 'a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2\n' },
  { text: 'a: &x {b: 1}\ny: &y {b: 2, f: 3}\nd:\n  <<: [*x, *y]\n  e: 2\n' },
  {
    text: 'a: &x {b: 1, c: 2}\nd:\n  b: 5\n  <<: *x\n',
    difference:
      'kubectl lets what is merged replace what stands before it, against the words of YAML',
  },
  { text: 'a: &x [1]\nb: *x\nc: [*x, *x]\n' },
  { text: 'a: *missing\n' },
  { text: '---\na: 1\n---\n---\n# nothing\n---\nb: 2\n' },
  { text: '# head\n--- # comment\na: 1\n' },
  { text: '\ufeffa: 1\n---\n\ufeffb: 2\n' },
  { text: '\ufeff---\r\na: 1\r\n---\r\nb: 2\r\n' },
  { text: 'a: 1\r\nb:\r\n- c\r\n- d\r\n' },
  { text: 'a:\n\tb: 1\n' },
  { text: 'a: "b\n  c"\nd: \'e\n\n  f\'\n' },
  { text: '{"a": "\\u0041\\n", "b": [1, 2.5, null, true]}' },
  { text: '{\n\t"a": 1,\n\t"b": {"c": []}\n}\n' },
  { text: '[{"a": 1}]' },
  { text: 'a: b: c\n' },
  { text: 'a: [1, 2\n' },
  { text: 'a: 1\n b: 2\n' },
  { text: '1: a\ntrue: b\nnull: c\n1.5: d\nyes: e\n' },
  { text: '? a\n: b\n' },
  { text: 'hello\n' },
  { text: '' },
  { text: '# nothing\n' },
  { text: 'a: 1\n----\nb: 2\n' },
  { text: 'a: 1\0\n', difference: 'a control character' },
  { text: 'a: {{ .Values.a }}\n' },
  { text: '{{- if .Values.a }}\na: 1\n{{- end }}\n' },
  { text: '<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n' },
  { text: 'a: 1\na: 2\n', difference: 'a key twice: kubectl takes the last one, we none' },
  { text: 'a: 1\n...\nb: 2\n', difference: 'kubectl loses what follows the dots, we read it' },
  { text: '{"a": 1}\n{"b": 2}\n', difference: 'JSON objects one after the other are no YAML' },
  { text: '%YAML 1.1\n---\na: yes\n', difference: 'kubectl cuts the line of the version off' },
];

export const texts: readonly ManifestText[] = [
  ...scalars.map((scalar) => {
    const difference = differing[scalar];
    return { text: `a: ${scalar}\n`, ...(difference === undefined ? {} : { difference }) };
  }),
  ...structures,
];
