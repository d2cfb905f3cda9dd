// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Options that several commands take, checked while the command line is read. */

import { parseMatchPattern } from '@tandem/core/dns/pattern';
import { InvalidArgumentError, Option } from 'commander';
import { parseSeconds } from './output/quantities.ts';

/** --pod NAMESPACE/NAME or NAMESPACE/. */
export function podOption(): Option {
  return new Option(
    '--pod <pod>',
    'only this pod: NAMESPACE/NAME, or NAMESPACE/ for all of one',
  ).argParser((text: string) => {
    if (/^[^/]+\/[^/]*$/.test(text)) return text;
    throw new InvalidArgumentError('Give NAMESPACE/NAME, or NAMESPACE/ for a whole namespace.');
  });
}

/** --name PATTERN, in the syntax of matchPattern. */
export function nameOption(): Option {
  return new Option(
    '--name <pattern>',
    'only names that match: a name, or a pattern as in matchPattern ("*.example.com")',
  ).argParser((text: string) => {
    const parsed = parseMatchPattern(text, 'rules.dns');
    if (parsed.ok) return text;
    throw new InvalidArgumentError(`The ${parsed.error.message}.`);
  });
}

/** A whole number in a range. */
export function integerIn(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Give a number in ${min}..${max}.`);
  };
}

/** A duration, as seconds. */
export function secondsUpTo(max: number): (text: string) => number {
  return (text) => {
    const seconds = parseSeconds(text);
    if (seconds !== null && seconds > 0 && seconds <= max) return seconds;
    throw new InvalidArgumentError(
      `Give a duration such as 30s, 5m, 2h or 1d, up to ${max / 86_400}d.`,
    );
  };
}
