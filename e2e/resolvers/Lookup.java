// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import java.net.InetAddress;
import java.util.Arrays;
import java.util.stream.Collectors;

/** What Java says to the name in the argument: milliseconds, then its addresses or "-" and the error. */
public class Lookup {
  public static void main(String[] names) {
    long before = System.nanoTime();
    String text;
    try {
      InetAddress[] found = InetAddress.getAllByName(names[0]);
      text = Arrays.stream(found).map(InetAddress::getHostAddress).collect(Collectors.joining(" "));
    } catch (Exception error) {
      text = "- " + error;
    }
    System.out.println((System.nanoTime() - before) / 1_000_000 + " " + text);
  }
}
