// Makes `src/generated` from the .proto files: `npm run generate`. `npm run generate:check` says whether it is what they give.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
// A copy of this folder elsewhere says where the .proto files are.
const protos = process.env.KAKEYA_PROTO ?? join(here, "..", "..", "proto", "proto");
const committed = join(here, "src", "generated");

function make(out) {
  const template = {
    version: "v2",
    inputs: [{ directory: protos }],
    plugins: [
      {
        local: [process.execPath, join(here, "node_modules", "ts-proto", "protoc-gen-ts_proto")],
        out,
        opt: ["outputServices=grpc-js", "esModuleInterop=true", "importSuffix=.js", "forceLong=bigint", "useExactTypes=false", "outputJsonMethods=false", "outputPartialMethods=true", "annotateFilesWithVersion=false"],
      },
    ],
  };
  const file = join(out, "buf.gen.yaml");
  writeFileSync(file, JSON.stringify(template));
  execFileSync(join(here, "node_modules", ".bin", "buf"), ["generate", "--template", file], { stdio: "inherit" });
  rmSync(file);
}

const files = (folder) => (existsSync(folder) ? readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".ts")).sort() : []);

const out = mkdtempSync(join(tmpdir(), "kakeya-generate-"));
try {
  make(out);
  if (process.argv[2] === "--check") {
    const names = new Set([...files(out), ...files(committed)]);
    const text = (folder, name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : null);
    const differing = [...names].filter((name) => text(out, name) !== text(committed, name));
    if (differing.length > 0) {
      console.error(`not what the .proto files give: ${differing.join(", ")}; run \`npm run generate\``);
      process.exitCode = 1;
    }
  } else {
    rmSync(committed, { recursive: true, force: true });
    cpSync(out, committed, { recursive: true });
  }
} finally {
  rmSync(out, { recursive: true, force: true });
}
