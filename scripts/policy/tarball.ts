/** Writes bundles. */

/** A gzipped ustar archive without times or owners, so that equal content is equal bytes. */
export function tarball(files: readonly (readonly [name: string, content: Buffer])[]): Uint8Array {
  const blocks: Buffer[] = [];
  for (const [name, content] of files) {
    if (Buffer.byteLength(name) > 100) throw new Error(`${name}: a bundle's names have 100 bytes at most`);
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write("0000644\u00000000000\u00000000000\u0000", 100);
    header.write(`${content.length.toString(8).padStart(11, "0")}\u000000000000000\u0000        0`, 124);
    header.write("ustar\u000000", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\u0000 `, 148);
    blocks.push(header, content, Buffer.alloc((512 - (content.length % 512)) % 512));
  }
  blocks.push(Buffer.alloc(1_024));
  const bytes = Bun.gzipSync(Buffer.concat(blocks), { level: 9 });
  // gzip's header: no time, unknown system.
  bytes.fill(0, 4, 8);
  bytes[9] = 255;
  return bytes;
}
