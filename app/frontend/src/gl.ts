// WebGL2 in a few functions: a program with named uniforms, and 3D textures filled slab by slab.

export type Gl = WebGL2RenderingContext;
type Uniform = number | boolean | Float32Array | readonly number[];

const SLAB_BYTES = 8 << 20;

export class Program {
  private readonly program: WebGLProgram;
  private readonly places = new Map<string, { at: WebGLUniformLocation; type: number }>();

  constructor(private readonly gl: Gl, vertex: string, fragment: string) {
    const program = gl.createProgram()!;
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]] as const) {
      const shader = gl.createShader(kind)!;
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      gl.deleteShader(shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost())
      throw new Error(`The graphics driver refused a shader: ${gl.getProgramInfoLog(program)}`);
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const info = gl.getActiveUniform(program, i)!;
      this.places.set(info.name, { at: gl.getUniformLocation(program, info.name)!, type: info.type });
    }
    this.program = program;
  }

  draw(uniforms: Record<string, Uniform>): void {
    const { gl } = this;
    gl.useProgram(this.program);
    for (const [name, value] of Object.entries(uniforms)) this.set(name, value);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  private set(name: string, value: Uniform): void {
    const { gl } = this;
    const place = this.places.get(name);
    if (!place) return; // optimised away
    switch (place.type) {
      case gl.FLOAT: return gl.uniform1f(place.at, value as number);
      case gl.FLOAT_VEC2: return gl.uniform2fv(place.at, value as number[]);
      case gl.FLOAT_VEC3: return gl.uniform3fv(place.at, value as number[]);
      case gl.FLOAT_VEC4: return gl.uniform4fv(place.at, value as number[]);
      case gl.FLOAT_MAT4: return gl.uniformMatrix4fv(place.at, false, value as Float32Array);
      default: return gl.uniform1i(place.at, Number(value));
    }
  }
}

export interface Format { internal: number; format: number; type: number; bytes: number }

export function formats(gl: Gl) {
  return {
    half: { internal: gl.R16F, format: gl.RED, type: gl.HALF_FLOAT, bytes: 2 },
    byte: { internal: gl.R8, format: gl.RED, type: gl.UNSIGNED_BYTE, bytes: 1 },
    label8: { internal: gl.R8UI, format: gl.RED_INTEGER, type: gl.UNSIGNED_BYTE, bytes: 1 },
    label16: { internal: gl.R16UI, format: gl.RED_INTEGER, type: gl.UNSIGNED_SHORT, bytes: 2 },
  } satisfies Record<string, Format>;
}

export type Texels = Uint8Array | Uint16Array;

/** A 3D texture; `texels(start, count)` gives a run of voxels, i fastest. */
export function texture3d(gl: Gl, dims: readonly number[], format: Format, texels: (start: number, count: number) => Texels): WebGLTexture {
  const [x, y, z] = dims;
  const limit = gl.getParameter(gl.MAX_3D_TEXTURE_SIZE) as number;
  if (Math.max(x, y, z) > limit)
    throw new Error(`This volume is ${dims.join("x")} voxels; this graphics device shows at most ${limit} along an axis.`);
  const texture = gl.createTexture()!;
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_3D, texture);
  gl.texStorage3D(gl.TEXTURE_3D, 1, format.internal, x, y, z);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const planes = Math.max(1, Math.floor(SLAB_BYTES / (x * y * format.bytes)));
  for (let k = 0; k < z; k += planes) {
    const depth = Math.min(planes, z - k);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, k, x, y, depth, format.format, format.type, texels(k * x * y, depth * x * y));
  }
  for (const axis of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T, gl.TEXTURE_WRAP_R])
    gl.texParameteri(gl.TEXTURE_3D, axis, gl.CLAMP_TO_EDGE);
  const filter = format.format === gl.RED_INTEGER ? gl.NEAREST : gl.LINEAR;
  gl.texParameteri(gl.TEXTURE_3D, gl.TEXTURE_MIN_FILTER, filter);
  gl.texParameteri(gl.TEXTURE_3D, gl.TEXTURE_MAG_FILTER, filter);
  const failure = gl.getError();
  if (failure === gl.OUT_OF_MEMORY) throw new Error("This graphics device has not enough memory for this volume.");
  return texture;
}

/** A small RGBA table, nearest texel. */
export function table2d(gl: Gl, width: number, height: number, rgba: Uint8Array, known?: WebGLTexture): WebGLTexture {
  const texture = known ?? gl.createTexture()!;
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  for (const [name, value] of [
    [gl.TEXTURE_MIN_FILTER, gl.NEAREST], [gl.TEXTURE_MAG_FILTER, gl.NEAREST],
    [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
  ]) gl.texParameteri(gl.TEXTURE_2D, name, value);
  return texture;
}
