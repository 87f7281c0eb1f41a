#!/usr/bin/env python3
"""Writes the corpus of files that must be refused, for the readers of weights, indices and manifests.

The files are committed; this script says how they came about and makes more of the kind. Everything it writes is a
function of this text alone. usage: make_corpus.py [tests/malformed]
"""
import copy
import json
import struct
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)


def write(path, data):
    path = ROOT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def file_of(header, data=b"\0" * 4):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def safetensors():
    good = json.dumps({"t": entry()})
    raw = {
        # 1: lengths
        "empty": b"", "seven_bytes": b"\x08" + b"\0" * 6, "eight_bytes_zero": b"\0" * 8, "only_length": struct.pack("<Q", 2),
        "length_2_63": struct.pack("<Q", 1 << 63) + b"{}", "length_max": b"\xff" * 8 + b"{}",
        "length_past_file": struct.pack("<Q", 1000) + b"{}", "length_over_100MB": struct.pack("<Q", 100_000_001) + b"{}",
        "length_100MB_of_nothing": struct.pack("<Q", 100_000_000) + b"{}",
        # 2: header
        "array": file_of("[]", b""), "number": file_of("1", b""), "leading_blank": file_of(" " + good),
        "bom": file_of("\ufeff" + good), "invalid_utf8": file_of(b'{"\xff":' + json.dumps(entry()).encode() + b"}"),
        "overlong_utf8": file_of(b'{"\xc0\x80":' + json.dumps(entry()).encode() + b"}"),
        "lone_surrogate": file_of('{"\\ud800":' + json.dumps(entry()) + "}"),
        "trailing_garbage": file_of(good + "x"), "trailing_zero": file_of(good + "\0\0\0"), "two_objects": file_of(good + good),
        "cut_header": file_of(good[:-5]), "comment": file_of("{/**/}", b""), "trailing_comma": file_of(good[:-1] + ",}"),
        "arrays_deep": file_of("{\"t\":" + "[" * 100_000, b""), "objects_deep": file_of('{"a":' * 2_000, b""),
        "duplicate_tensor": file_of('{"t":%s,"t":%s}' % (json.dumps(entry()), json.dumps(entry(shape=(0,), offsets=(4, 4))))),
        "duplicate_key": file_of('{"t":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
        "duplicate_metadata": file_of('{"__metadata__":{},"__metadata__":{},"t":%s}' % json.dumps(entry())),
        "duplicate_metadata_key": file_of('{"__metadata__":{"a":"1","a":"2"},"t":%s}' % json.dumps(entry())),
        "metadata_number": file_of('{"__metadata__":{"a":1},"t":%s}' % json.dumps(entry())),
        "metadata_nested": file_of('{"__metadata__":{"a":{}},"t":%s}' % json.dumps(entry())),
        "metadata_string": file_of('{"__metadata__":"x","t":%s}' % json.dumps(entry())),
        "metadata_null": file_of('{"__metadata__":null,"t":%s}' % json.dumps(entry())),
        "many_entries_then_garbage": file_of("{" + ",".join('"%d":0' % i for i in range(3000)) + "}", b""),
        "old_offsets_key": file_of('{"t":{"dtype":"F32","shape":[1],"offsets":[0,4]}}'),
        "missing_dtype": file_of('{"t":{"shape":[1],"data_offsets":[0,4]}}'),
        "missing_shape": file_of('{"t":{"dtype":"F32","data_offsets":[0,4]}}'),
        "missing_offsets": file_of('{"t":{"dtype":"F32","shape":[1]}}'),
        "null_entry": file_of('{"t":null}'), "string_entry": file_of('{"t":"F32"}'), "number_entry": file_of('{"t":1}'),
        "dtype_number": file_of('{"t":{"dtype":1,"shape":[1],"data_offsets":[0,4]}}'),
        "shape_null": file_of('{"t":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}'),
        "shape_string": file_of('{"t":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}'),
        "shape_nested": file_of('{"t":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}}'),
        "shape_object": file_of('{"t":{"dtype":"F32","shape":{"0":1},"data_offsets":[0,4]}}'),
        "one_offset": file_of('{"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}}'),
        "three_offsets": file_of('{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}'),
        "offset_string": file_of('{"t":{"dtype":"F32","shape":[1],"data_offsets":["0","4"]}}'),
        "offset_bool": file_of('{"t":{"dtype":"F32","shape":[1],"data_offsets":[false,4]}}'),
        "long_number": file_of('{"t":{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}}' % ("9" * 5000)),
    }
    for number in ("4.0", "-4", "1e400", "18446744073709551616", "9223372036854775808", "0x4", "NaN", "4e0"):
        raw["offset_" + number] = file_of('{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,%s]}}' % number)
    for number in ("1.0", "-1", "1e400", "18446744073709551617", "9223372036854775808", "true"):
        raw["dim_" + number] = file_of('{"t":{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}}' % number)
    # 3: places
    two = lambda a, b: json.dumps({"a": entry(offsets=a), "b": entry(offsets=b)})
    raw |= {
        "overlap": file_of(two((0, 4), (2, 6)), b"\0" * 6), "same_place": file_of(two((0, 4), (0, 4))),
        "gap": file_of(two((0, 4), (8, 12)), b"\0" * 12), "first_not_zero": file_of(json.dumps({"t": entry(offsets=(4, 8))}), b"\0" * 8),
        "reversed": file_of(json.dumps({"t": entry(offsets=(4, 0))})), "out_of_file": file_of(json.dumps({"t": entry(shape=(1000,), offsets=(0, 4000))})),
        "poc_out_of_bounds": file_of(json.dumps({"t": entry(shape=(1000000,), offsets=(0, 4))})),
        "bytes_left": file_of(good, b"\0" * 5), "one_byte_short": file_of(good, b"\0" * 3), "no_data": file_of(good, b""),
        "empty_tensor_in_a_gap": file_of(json.dumps({"t": entry(), "e": entry(shape=(0,), offsets=(8, 8))})),
        "empty_tensor_inside": file_of(json.dumps({"t": entry(), "e": entry(shape=(0,), offsets=(2, 2))})),
        "nothing_but_bytes": file_of("{}      "),
        # 4: shapes and types
        "product_wraps_to_4": file_of(json.dumps({"t": entry("U8", (4194305, 4194305, 211106198978564))})),
        "product_2_63": file_of(json.dumps({"t": entry(shape=(1 << 62, 2))})),
        "bytes_2_63": file_of(json.dumps({"t": entry("F64", (1 << 60,))})),
        "end_2_63": file_of(json.dumps({"t": entry("U8", ((1 << 63) - 1,), (0, (1 << 63) - 1))})),
        "two_halves_of_2_63": file_of(json.dumps({"a": entry("U8", (1 << 62,), (0, 1 << 62)), "b": entry("U8", (1 << 62,), (1 << 62, (1 << 63) - 1))})),
        "zero_dim_with_bytes": file_of(json.dumps({"t": entry(shape=(0, 5))})),
        "rank_1000": file_of(json.dumps({"t": entry(shape=(1,) * 1000)})),
        "dtype_unknown": file_of(json.dumps({"t": entry("F33")})), "dtype_lower_case": file_of(json.dumps({"t": entry("f32")})),
        "dtype_sub_byte": file_of(json.dumps({"t": entry("F4", (8,))})), "dtype_empty": file_of(json.dumps({"t": entry("")})),
        "dtype_complex": file_of(json.dumps({"t": entry("C64", (1,), (0, 8))}), b"\0" * 8),
        "shape_dtype_mismatch": file_of(json.dumps({"t": entry("F64")})),
    }
    for name, data in raw.items():
        write(f"safetensors/{name}.safetensors", data)


def index():
    def case(name, weight_map, shards=("a", "b"), text=None):
        folder = f"index/{name}"
        for shard, tensor in zip(("a", "b"), ("x", "y")):
            if shard in shards:
                write(f"{folder}/{shard}.safetensors", file_of(json.dumps({tensor: entry()})))
        write(f"{folder}/model.safetensors.index.json",
              text if text is not None else json.dumps({"metadata": {"total_size": 8}, "weight_map": weight_map}))

    ok = {"x": "a.safetensors", "y": "b.safetensors"}
    for name, file in {"parent": "../a.safetensors", "absolute": "/etc/passwd", "device": "/dev/zero", "sub_folder": "s/a.safetensors",
                       "empty_name": "", "dot": ".", "dot_dot": "..", "backslash": "..\\a.safetensors", "pickle": "a.bin",
                       "zero_byte": "a.safetensors\0", "missing_shard": "c.safetensors"}.items():
        case(name, ok | {"x": file})
    case("number", ok | {"x": 1})
    case("list", ["a.safetensors"])
    case("nothing", {})
    case("missing_tensor", ok | {"z": "a.safetensors"})
    case("tensor_in_the_other_shard", {"x": "b.safetensors", "y": "a.safetensors"})
    case("no_map", None, text='{"metadata":{}}')
    case("map_null", None, text='{"weight_map":null}')
    case("duplicate_key", None, text='{"weight_map":{"x":"a.safetensors","x":"b.safetensors"}}')
    case("deep", None, text='{"weight_map":' + '{"a":' * 2_000)
    case("cut", None, text='{"weight_map":{"x":"a.safe')
    case("empty", None, text="")
    case("binary", None, text="\0\1\2\3")
    case("not_an_object", None, text='"x"')
    write("index/tensor_in_two_shards/a.safetensors", file_of(json.dumps({"x": entry()})))
    write("index/tensor_in_two_shards/b.safetensors", file_of(json.dumps({"x": entry(), "y": entry(offsets=(4, 8))}), b"\0" * 8))
    write("index/tensor_in_two_shards/model.safetensors.index.json", json.dumps({"weight_map": ok}))
    write("index/only_a_pickle/pytorch_model.bin", b"PK\3\4")
    write("index/nothing_here/README", "no weights")
    for name, target in {"link_to_nothing": "../nowhere/a.safetensors", "link_to_a_device": "/dev/null",
                         "link_to_a_folder": "../missing_tensor"}.items():
        link = ROOT / f"index/{name}/a.safetensors"
        case(name, ok, shards=("b",))
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    write("index/shard_is_a_folder/a.safetensors/README", "a folder")
    write("index/shard_is_a_folder/b.safetensors", file_of(json.dumps({"y": entry()})))
    write("index/shard_is_a_folder/model.safetensors.index.json", json.dumps({"weight_map": ok}))


def plain_json():
    for name, text in {"deep_arrays": "[" * 100_000, "deep_objects": '{"a":' * 2_000, "duplicate": '{"a":1,"b":2,"a":3}',
                       "invalid_utf8": b'{"a":"\xff\xfe"}', "cut": '{"a":', "empty": "", "zero": b"{}\0", "nan": '{"a":NaN}',
                       "huge_number": '{"a":1e999}', "long_number": '{"a":' + "1" * 5_000 + "}", "garbage": "{} x",
                       "single_quotes": "{'a':1}", "control_character": '{"a":"\1"}', "lone_quote": '"', "many_commas": "[" + "," * 1000,
                       "bad_escape": '"\\x41"', "half_pair": '"\\ud83d"'}.items():
        write(f"json/{name}.json", text)


MANIFEST = {
    "format": "toroid checkpoint", "version": 1, "step": 7, "world_size": 1, "config": "", "counters": {"updates": 7},
    "texts": {}, "scalars": {"z_mean": "0x1.8p+1"}, "data": {"next_sequence": 112, "skipped": [[3, 9]]},
    "files": [{"name": "master-00000-of-00001.safetensors", "part": "master", "rank": 0, "bytes": 2000,
               "xxh3": "0" * 32, "blocks": ["0" * 16]}],
    "tensors": [{"name": "w", "part": "master", "dtype": "F32", "shape": [10], "hash": "0" * 16}], "seal": "0" * 32,
}


def put(*path_and_value):
    *path, last, new = path_and_value

    def change(value):
        for key in path:
            value = value[key]
        value[last] = new
    return change


def manifest():
    def case(name, change):
        value = copy.deepcopy(MANIFEST)
        result = change(value)
        write(f"manifest/{name}.json", json.dumps(value if result is None else result))

    case("wrong_seal", lambda m: None)
    case("not_a_manifest", lambda m: {"weight_map": {}})
    case("list", lambda m: [m])
    case("other_format", put("format", "another checkpoint"))
    for name, version in {"future": 3, "far_future": 1 << 62, "zero": 0, "negative": -1, "string": "1", "float": 1.0}.items():
        case(f"version_{name}", put("version", version))
    for name, size in {"0": 0, "minus": -1, "2_31": 1 << 31, "2_63": (1 << 63) - 1, "more_than_files": 2, "float": 1.5}.items():
        case(f"world_size_{name}", put("world_size", size))
    for name, step in {"negative": -1, "2_64": 1 << 64, "string": "7", "null": None}.items():
        case(f"step_{name}", put("step", step))
    for key in MANIFEST:
        case(f"without_{key}", lambda m, key=key: m.pop(key) and None)
        case(f"{key}_is_null", put(key, None))
    case("unknown_key", put("latest", 9))
    case("two_latest", put("latest", [7, 8]))
    case("hash_list_too_short", put("files", 0, "blocks", []))
    case("hash_list_too_long", put("files", 0, "blocks", ["0" * 16] * 2))
    case("block_hash_short", put("files", 0, "blocks", ["0" * 15]))
    case("block_hash_not_hex", put("files", 0, "blocks", ["g" * 16]))
    case("file_hash_short", put("files", 0, "xxh3", "0" * 31))
    case("file_hash_number", put("files", 0, "xxh3", 0))
    for name, file in {"parent": "../x.safetensors", "absolute": "/etc/passwd", "hidden": ".x.safetensors", "empty": "",
                       "pickle": "x.pt", "blank": "a b.safetensors", "long": "a" * 300 + ".safetensors"}.items():
        case(f"file_name_{name}", put("files", 0, "name", file))
    for name, size in {"huge": (1 << 63) - 1, "negative": -1, "zero": 0}.items():
        case(f"file_bytes_{name}", put("files", 0, "bytes", size))
    case("file_rank_out_of_range", put("files", 0, "rank", 1))
    case("file_twice", lambda m: m["files"].append(m["files"][0]))
    case("no_files", put("files", []))
    case("files_object", put("files", {}))
    case("tensor_twice", lambda m: m["tensors"].append(m["tensors"][0]))
    case("tensor_shape_negative", put("tensors", 0, "shape", [-1]))
    case("tensor_shape_overflow", put("tensors", 0, "shape", [1 << 40, 1 << 40]))
    case("tensor_dtype", put("tensors", 0, "dtype", "F4"))
    case("tensor_name_escape", put("tensors", 0, "name", "../w"))
    case("tensor_name_control", put("tensors", 0, "name", "w\x1b[2J"))
    case("tensor_hash", put("tensors", 0, "hash", "x"))
    case("skipped_reversed", put("data", "skipped", [[9, 3]]))
    case("skipped_short", put("data", "skipped", [[9]]))
    case("next_sequence_negative", put("data", "next_sequence", -1))
    case("counter_float", put("counters", "updates", 7.5))
    case("scalar_number", put("scalars", "z_mean", 3.0))
    case("scalar_text", put("scalars", "z_mean", "three"))
    case("run_short", put("run", "0" * 31))
    case("run_number", put("run", 7))
    for name, parent in {"list": [3, "0" * 32], "step_negative": {"step": -1, "seal": "0" * 32},
                         "seal_short": {"step": 3, "seal": "0"}, "without_seal": {"step": 3},
                         "unknown_key": {"step": 3, "seal": "0" * 32, "run": "0" * 32}}.items():
        case(f"parent_{name}", put("parent", parent))
    text = json.dumps(MANIFEST)
    write("manifest/cut.json", text[:200])
    write("manifest/empty.json", "")
    write("manifest/duplicate_step.json", text[:-1] + ',"step":8}')
    write("manifest/deep.json", '{"format":' + "[" * 5_000)
    write("manifest/zero_bytes.json", b"\0" * 100)


# Of rank 1 of 4.
REPORT = {
    "files": [{"name": "master-00001-of-00004.safetensors", "part": "master", "rank": 1, "bytes": 2000, "xxh3": "0" * 32,
               "blocks": ["0" * 16]}],
    "tensors": [{"tensor": {"name": "w", "part": "master", "dtype": "F32", "shape": [10], "hash": "0" * 16}, "elements": 3}],
}


def report():
    def case(name, change):
        value = copy.deepcopy(REPORT)
        result = change(value)
        write(f"report/{name}.json", json.dumps(value if result is None else result))

    case("list", lambda r: [r])
    for key in REPORT:
        case(f"without_{key}", lambda r, key=key: r.pop(key) and None)
        case(f"{key}_is_null", put(key, None))
        case(f"{key}_object", put(key, {"0": REPORT[key][0]}))
        case(f"{key}_of_numbers", put(key, [1]))
    case("unknown_key", put("ranks", 4))
    case("no_files", put("files", []))
    case("file_of_another_rank", put("files", 0, "rank", 2))
    case("file_rank_out_of_range", put("files", 0, "rank", 4))
    for name, file in {"of_another_rank": "master-00000-of-00004.safetensors", "of_another_part": "ema-00001-of-00004.safetensors",
                       "parent": "../master-00001-of-00004.safetensors", "manifest": "manifest.json", "long": "m" * 5_000,
                       "number": 7, "escape": "\x1b[2J"}.items():
        case(f"file_name_{name}", put("files", 0, "name", file))
    for name, part in {"empty": "", "slash": "a/b", "long": "a" * 100_000, "null": None}.items():
        case(f"file_part_{name}", put("files", 0, "part", part))
    case("part_twice", lambda r: r["files"].append(r["files"][0]))
    case("block_hash_number", put("files", 0, "blocks", [0]))
    case("blocks_too_many", put("files", 0, "blocks", ["0" * 16] * 1_000))
    case("bytes_without_blocks", put("files", 0, "bytes", 1 << 62))
    case("bytes_negative", put("files", 0, "bytes", -8))
    for name, value in {"more_than_the_tensor": 11, "negative": -1, "float": 3.0, "string": "3", "2_64": 1 << 64}.items():
        case(f"elements_{name}", put("tensors", 0, "elements", value))
    for name, dtype in {"number": 255, "unknown": "F4", "null": None}.items():
        case(f"tensor_dtype_{name}", put("tensors", 0, "tensor", "dtype", dtype))
    for name, shape in {"overflow": [1 << 40, 1 << 40], "negative": [-1], "bytes_overflow": [1 << 62], "float": [1.5],
                        "number": 10, "nested": [[10]]}.items():
        case(f"tensor_shape_{name}", put("tensors", 0, "tensor", "shape", shape))
    for name, tensor in {"empty": "", "long": "w" * 100_000, "parent": "../w", "control": "w\x1b[2J", "slice": "w@3"}.items():
        case(f"tensor_name_{name}", put("tensors", 0, "tensor", "name", tensor))
    case("tensor_hash_short", put("tensors", 0, "tensor", "hash", "0" * 15))
    case("tensor_twice", lambda r: r["tensors"].append(r["tensors"][0]))
    case("tensor_as_it_was", put("tensors", 0, {"name": "w", "part": "master", "type": 255, "shape": [10], "elements": 10, "hash": "0"}))
    text = json.dumps(REPORT)
    write("report/cut.json", text[:150])
    write("report/empty.json", "")
    write("report/not_json.json", "+" + text)
    write("report/duplicate_key.json", text[:-1] + ',"files":[]}')
    write("report/deep.json", '{"files":' + "[" * 5_000)
    write("report/zero_bytes.json", b"\0" * 100)


def board():
    def call(number, size=4000, phase=2, done=1, operation=b"all_reduce", tensor=b"gradients"):
        return struct.pack("<QQII24s72s", number, size, phase, done, operation, tensor)

    def row(rank, calls=(7, 8), process=4711, state=0, count=None, last=8, coordinate=b"data 3"):
        calls = [c if isinstance(c, bytes) else call(c) for c in calls]
        rest = b"\0" * (120 * (4 - len(calls)))
        return (struct.pack("<IIIIQ48s", rank, process, state, len(calls) if count is None else count, last, coordinate) +
                b"".join(calls) + rest)

    def all_of(rows, magic=b"TRDBOARD", version=1, count=None):
        return magic + struct.pack("<II", version, len(rows) if count is None else count) + b"".join(rows)

    good = all_of([row(2), row(3)])
    cases = {
        "empty": b"", "header_cut": good[:15], "magic_alone": b"TRDBOARD", "other_magic": all_of([row(2)], magic=b"TRDBOARE"),
        "version_2": all_of([row(2)], version=2), "version_0": all_of([], version=0), "cut": good[:-1], "row_cut": good[:-552 - 10],
        "longer": good + b"\0", "rows_more_than_bytes": all_of([row(2)], count=2), "rows_fewer_than_bytes": all_of([row(2)], count=0),
        "rows_2_32": all_of([row(2)], count=(1 << 32) - 1), "rows_1025": all_of([], count=1025),
        "ranks_fall": all_of([row(3), row(2)]), "rank_twice": all_of([row(3), row(3)]), "rank_2_31": all_of([row(1 << 31)]),
        "process_2_31": all_of([row(2, process=1 << 31)]), "state_3": all_of([row(2, state=3)]),
        "calls_5": all_of([row(2, count=5)]), "calls_more_than_there_are": all_of([row(2, count=3)]),
        "calls_fewer_than_there_are": all_of([row(2, count=1)]), "calls_fall": all_of([row(2, calls=(8, 7))]),
        "call_twice": all_of([row(2, calls=(8, 8))]), "call_zero": all_of([row(2, calls=(0, 8))]),
        "bytes_2_63": all_of([row(2, calls=(call(8, size=1 << 63),))]), "phase_5": all_of([row(2, calls=(call(8, phase=5),))]),
        "done_2": all_of([row(2, calls=(call(8, done=2),))]),
        "operation_behind_its_end": all_of([row(2, calls=(call(8, operation=b"sum\0x"),))]),
        "tensor_behind_its_end": all_of([row(2, calls=(call(8, tensor=b"\0" * 71 + b"x"),))]),
        "coordinate_behind_its_end": all_of([row(2, coordinate=b"a\0\x1b[31m")]),
        "text": b"rank 2 has done call 8\n" * 30,
    }
    for name, data in cases.items():
        write(f"board/{name}.bin", data)


def checkpoints():
    write("checkpoint/run_without_steps/config.textproto", "model {}")
    write("checkpoint/step-7/README", "a step without a manifest")
    write("checkpoint/manifest_of_another_step/checkpoints/step-8/manifest.json", json.dumps(MANIFEST))
    write("checkpoint/leftover_only/checkpoints/.saving-step-9/manifest.json", json.dumps(MANIFEST))
    write("checkpoint/not_numbers/checkpoints/step-x/manifest.json", json.dumps(MANIFEST))
    write("checkpoint/padded_number/checkpoints/step-007/manifest.json", json.dumps(MANIFEST))
    write("checkpoint/a_file", "not a folder")


HF = {"model_type": "gemma", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1,
      "head_dim": 16, "intermediate_size": 48, "vocab_size": 97, "hidden_act": "gelu_pytorch_tanh"}


def huggingface_config():
    def case(name, **changes):
        value = {k: v for k, v in (HF | changes).items() if v is not ...}
        write(f"huggingface_config/{name}.json", json.dumps(value))

    case("llama", model_type="llama")
    case("gemma3_multimodal", model_type="gemma3")
    case("no_model_type", model_type=...)
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"):
        case(f"{key}_null", **{key: None})
        case(f"{key}_zero", **{key: 0})
        case(f"{key}_2_31", **{key: 1 << 31})
        case(f"{key}_float", **{key: 8.0})
    case("heads_do_not_divide", num_key_value_heads=3)
    case("odd_head_dim", head_dim=15)
    case("erf_gelu", model_type="gemma2", hidden_activation="gelu")
    case("unknown_activation", hidden_act="tanh")
    case("activations_disagree", hidden_act="silu", hidden_activation="relu")
    case("attention_bias", attention_bias=True)
    case("bidirectional", use_bidirectional_attention=True)
    case("unknown_mlp", mlp="mixture")
    case("rope_yarn", rope_scaling={"rope_type": "yarn", "factor": 4.0})
    case("rope_factor_missing", rope_scaling={"rope_type": "linear"})
    case("rope_thetas_disagree", rope_theta=1e4, rope_parameters={"rope_theta": 1e6, "rope_type": "default"})
    case("rope_theta_string", rope_theta="1e4")
    case("partial_rotary", rope_parameters={"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5})
    case("layer_types_short", model_type="gemma2", layer_types=["full_attention"])
    case("layer_types_unknown", model_type="gemma2", layer_types=["full_attention", "chunked_attention"])
    case("window_zero", model_type="gemma2", sliding_window=0)
    case("pattern_zero", model_type="gemma3_text", sliding_window_pattern=0)
    case("eps_negative", rms_norm_eps=-1.0)
    case("eps_null", rms_norm_eps=None)
    case("tie_null", tie_word_embeddings=None)
    case("bias_null", attention_bias=None)
    case("use_cache_null", use_cache=None)
    case("hidden_act_null", hidden_act=None)
    case("hidden_activation_null", model_type="gemma2", hidden_activation=None)
    case("hidden_act_of_gemma2", model_type="gemma2", hidden_act="relu")
    case("scalar_null", model_type="gemma2", query_pre_attn_scalar=None)
    case("window_null", model_type="gemma2", sliding_window=None)
    case("window_null_unused", model_type="gemma3_text", sliding_window=None, layer_types=["full_attention"] * 2)
    case("pattern_null", model_type="gemma3_text", sliding_window_pattern=None)
    case("pattern_of_gemma2", model_type="gemma2", sliding_window_pattern=3)
    case("pattern_unread", model_type="gemma3_text", _sliding_window_pattern=3)
    case("softcap_zero", model_type="gemma2", attn_logit_softcapping=0.0)
    case("width_of_gemma2", model_type="gemma2", hidden_size=34)
    case("rope_theta_null", rope_theta=None)
    case("rope_local_null", model_type="gemma3_text", rope_local_base_freq=None)
    case("rope_flat", model_type="gemma3_text", rope_parameters={"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6})
    case("rope_flat_theta", model_type="gemma3_text", rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    case("rope_flat_and_scaling", model_type="gemma3_text", rope_parameters={"rope_theta": 1e6}, rope_scaling={"rope_type": "linear", "factor": 8.0})
    case("rope_nested_gemma", rope_parameters={"full_attention": {"rope_theta": 1e6}})
    case("rope_nested_gemma2", model_type="gemma2", rope_parameters={"full_attention": {"rope_theta": 1e6}})
    case("rope_old_type", model_type="gemma3_text", rope_scaling={"type": "linear", "factor": 8.0})
    case("rope_type_null", rope_scaling={"rope_type": None, "factor": 8.0})
    case("rope_factor_without_type", rope_scaling={"factor": 8.0})
    case("rope_scaling_wins", rope_scaling={"rope_type": "linear", "factor": 2.0}, rope_parameters={"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0})
    case("partial_rotary_at_the_top", partial_rotary_factor=0.5)
    case("pad_beyond_vocab", pad_token_id=97)
    case("eos_string", eos_token_id="1")
    case("eos_list_of_null", eos_token_id=[1, None])
    case("bos_list", bos_token_id=[2])
    write("huggingface_config/empty.json", "")
    write("huggingface_config/list.json", "[]")
    write("huggingface_config/deep.json", '{"a":' * 2_000)


safetensors()
index()
plain_json()
manifest()
report()
board()
checkpoints()
huggingface_config()
